#include "services/block/qcow2/chain.h"

#include <string.h>

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "services/block/qcow2/check.h"
#include "services/block/request_check.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr size_t kMaxLayers = 64;

absl::Status About(const ChainFile& file, const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat(file.name, ": ", status.message()));
}

std::string LastPart(const std::string& path) {
  return path.substr(path.rfind('/') + 1);  // npos + 1 is 0
}

std::string Quoted(const std::string& name) {
  return absl::StrCat("\"", absl::CHexEscape(name), "\"");
}

// The image's own idea of its parent against the description's. Where the
// files lie is nobody's business in here, so the last part decides.
absl::Status CheckParent(const Header& header, const ChainFile* parent) {
  if (header.backing_name.empty()) {
    if (parent == nullptr) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "the image has no backing file, and the VM description names ",
        Quoted(parent->name)));
  }
  if (parent == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the image has the backing file ", Quoted(header.backing_name),
        ", which the VM description does not name"));
  }
  if (LastPart(header.backing_name) != LastPart(parent->name)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the image has the backing file ", Quoted(header.backing_name),
        ", and the VM description names ", Quoted(parent->name)));
  }
  const std::string& format = header.backing_format;
  const bool fits = parent->is_qcow2 ? format == "qcow2" || format == "qcow"
                                     : format == "raw";
  if (!format.empty() && !fits) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the image says that its backing file is ", Quoted(format),
        ", and the VM description says ", parent->is_qcow2 ? "qcow2" : "raw"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Layer> OpenLayer(ChainFile* file, const ChainFile* parent,
                                size_t l2_cache_bytes) {
  Layer layer;
  if (!file->is_qcow2) {
    const int64_t bytes = file->file->Size();
    if (bytes < 0) {
      return absl::InvalidArgumentError("its size cannot be told");
    }
    if (parent != nullptr) {
      return absl::FailedPreconditionError(
          "a raw image has no backing file, and the VM description names one");
    }
    layer.raw = std::move(file->file);
    layer.raw_file_bytes = static_cast<uint64_t>(bytes);
    layer.size_bytes =
        (layer.raw_file_bytes + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
    return layer;
  }
  auto image =
      Image::Open(std::move(file->file), l2_cache_bytes, file->aes_key);
  if (!image.ok()) return image.status();
  layer.image = *std::move(image);
  layer.size_bytes = layer.image->header().size_bytes;
  if (absl::Status s = CheckParent(layer.image->header(), parent); !s.ok()) {
    return s;
  }
  return layer;
}

// "A program that does not know an autoclear bit must clear it before it
// writes": bitmaps are not kept up to date here.
absl::Status ClearAutoclear(FileIo& file) {
  const Be64 none = uint64_t{0};
  int error = WriteBytes(file, &none, sizeof(none), kAutoclearFeaturesAt);
  if (error == 0) error = file.Sync();
  if (error == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("its header cannot be written: ", strerror(-error)));
}

// What an image needs before its first write. Its header is read anew after.
absl::Status MakeWritable(FileIo& file, const ChainFile* parent) {
  auto header = ReadHeader(file);
  if (!header.ok()) return header.status();
  if (absl::Status s = CheckParent(*header, parent); !s.ok()) return s;
  if (header->version == 1) {
    return absl::UnimplementedError(
        "version 1 images are read-only; qemu-img convert makes a newer one");
  }
  if (header->encrypted()) {
    return absl::UnimplementedError(
        "images with legacy AES encryption are read-only; qemu-img convert "
        "makes one without");
  }
  if (header->corrupt()) {
    return absl::InvalidArgumentError(
        "the image is marked corrupt: it can be read, and written after "
        "qemu-img check -r all");
  }
  if (header->dirty()) {
    if (absl::Status s = RebuildRefcounts(file, &*header, kSetUpBudget);
        !s.ok()) {
      return s;
    }
  }
  return header->autoclear != 0 ? ClearAutoclear(file) : absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ReadAesKey(FileIo& file) {
  std::string key(kAesKeyBytes + 2, 0);
  const iovec segment = {key.data(), key.size()};
  const ssize_t length = file.Read(&segment, 1, 0, Wait::kYes);
  if (length < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("reading its key: ", strerror(static_cast<int>(-length))));
  }
  key.resize(static_cast<size_t>(length));
  if (!key.empty() && key.back() == '\n') key.pop_back();
  if (key.empty() || key.size() > kAesKeyBytes) {
    return absl::InvalidArgumentError("its key is not 1 to 16 bytes");
  }
  key.resize(kAesKeyBytes, 0);
  return key;
}

absl::StatusOr<std::vector<Layer>> OpenLayers(std::vector<ChainFile> files,
                                              size_t l2_cache_bytes) {
  if (files.empty() || files.size() > kMaxLayers) {
    return absl::InvalidArgumentError(
        absl::StrCat("a chain of ", files.size(), " images"));
  }
  std::vector<Layer> layers;
  for (size_t i = 0; i < files.size(); ++i) {
    const ChainFile* parent = i + 1 < files.size() ? &files[i + 1] : nullptr;
    auto layer = OpenLayer(&files[i], parent, l2_cache_bytes);
    if (!layer.ok()) return About(files[i], layer.status());
    layers.push_back(*std::move(layer));
  }
  return layers;
}

absl::StatusOr<Place> Locate(const std::vector<Layer>& layers,
                             uint64_t offset_bytes, uint64_t max_bytes) {
  for (size_t i = 0; i < layers.size(); ++i) {
    const Layer& layer = layers[i];
    if (offset_bytes >= layer.size_bytes) break;
    max_bytes = std::min(max_bytes, layer.size_bytes - offset_bytes);
    if (layer.image == nullptr) {
      return Place{i,
                   {.kind = Extent::Kind::kData,
                    .host_offset = offset_bytes,
                    .length_bytes = max_bytes}};
    }
    Image& image = *layer.image;
    const uint64_t slice_offset = image.SliceOffset(offset_bytes);
    if (slice_offset == 0) {
      max_bytes = std::min(max_bytes, image.BytesToEndOfTable(offset_bytes));
      continue;
    }
    L2Slice* slice = image.cache().Find(slice_offset);
    if (slice == nullptr) {
      slice = image.cache().Insert(slice_offset);
      if (const int error =
              ReadBytes(image.file(), slice->bytes, image.cache().slice_bytes(),
                        slice_offset, BeyondEnd::kReadsZeroes);
          error != 0) {
        image.cache().Remove(slice);
        return absl::DataLossError(
            absl::StrCat("reading an L2 table: ", strerror(-error)));
      }
      slice->state = L2Slice::State::kReady;
    }
    const Extent extent = image.Map(*slice, offset_bytes, max_bytes);
    if (extent.kind != Extent::Kind::kUnallocated) return Place{i, extent};
    max_bytes = extent.length_bytes;
  }
  return Place{layers.size(),
               {.kind = Extent::Kind::kZero, .length_bytes = max_bytes}};
}

absl::StatusOr<std::unique_ptr<Engine>> OpenChain(
    std::vector<ChainFile> files, std::unique_ptr<WorkerPool> pool,
    const ChainOptions& options) {
  if (files.empty()) return absl::InvalidArgumentError("no image");
  const std::string name = files[0].name;
  if (!options.engine.read_only) {
    if (!files[0].is_qcow2) {
      return absl::InternalError("the first image of a chain must be qcow2");
    }
    const ChainFile* parent = files.size() > 1 ? &files[1] : nullptr;
    if (absl::Status s = MakeWritable(*files[0].file, parent); !s.ok()) {
      return About(files[0], s);
    }
  }
  auto layers = OpenLayers(std::move(files), options.l2_cache_bytes);
  if (!layers.ok()) return layers.status();
  auto engine =
      Engine::Create(*std::move(layers), std::move(pool), options.engine);
  if (!engine.ok()) {
    return absl::Status(engine.status().code(),
                        absl::StrCat(name, ": ", engine.status().message()));
  }
  return engine;
}

}  // namespace bulkhead::block::qcow2
