#include "services/block/qcow2/differential_rig.h"

#include <string.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "services/block/memory_file.h"
#include "services/block/qcow2/chain.h"
#include "services/block/qcow2/check.h"
#include "services/block/qcow2/format.h"
#include "services/block/qcow2/libqcow_oracle.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr uint64_t kPiece = 512;

struct Recipe {
  const char* name;
  const char* options;
  bool compressed = false;
  bool snapshot = false;
  const char* format = "qcow2";
};
constexpr Recipe kRecipes[] = {
    {"plain", "cluster_size=4k"},
    {"version_2", "cluster_size=4k,compat=0.10"},
    {"clusters_512", "cluster_size=512,refcount_bits=64"},
    {"clusters_64k", "cluster_size=64k,refcount_bits=1"},
    {"compressed", "cluster_size=4k", true},
    {"zstd", "cluster_size=4k,compression_type=zstd", true},
    {"snapshot", "cluster_size=4k", false, true},
    {"extended", "extended_l2=on,cluster_size=16k", false, true},
    {"extended_compressed", "extended_l2=on,cluster_size=16k", true},
    {"version_1", "", false, false, "qcow"},
    {"version_1_compressed", "", true, false, "qcow"},
};

uint64_t Load(const std::string& image, uint64_t at, unsigned bytes) {
  if (at > image.size() || bytes > image.size() - at) return 0;
  const auto* from = reinterpret_cast<const uint8_t*>(&image[at]);
  return bytes == 4 ? LoadBe32(from) : LoadBe64(from);
}

void Store(std::string* image, uint64_t at, unsigned bytes, uint64_t value) {
  if (at > image->size() || bytes > image->size() - at) return;
  auto* to = reinterpret_cast<uint8_t*>(&(*image)[at]);
  if (bytes == 4) {
    StoreBe32(to, static_cast<uint32_t>(value));
  } else {
    StoreBe64(to, value);
  }
}

// A value that a field could be made to have, to hurt.
uint64_t Hostile(const std::string& image, uint64_t now,
                 std::mt19937_64* random) {
  const uint64_t r = (*random)();
  const uint64_t cluster = uint64_t{1} << (Load(image, 20, 4) & 31);
  switch (r % 9) {
    case 0:
      return 0;
    case 1:
      return ~uint64_t{0} >> (r >> 8) % 64;
    case 2:
      return now ^ uint64_t { 1 } << (r >> 8) % 64;
    case 3:
      return now + cluster;
    case 4:
      return now - cluster;
    case 5:
      return (now & ~kOffsetMask) | ((r >> 8) % image.size() & ~(cluster - 1));
    case 6:
      return (now & ~kOffsetMask) | (image.size() & ~(cluster - 1));
    case 7:
      return (r >> 8) % image.size();
    default:
      return now + 1;
  }
}

uint64_t HashOf(const std::string& text) {
  return std::hash<std::string>()(text);
}

}  // namespace

DifferentialRig::DifferentialRig() {
  for (const Recipe& recipe : kRecipes) {
    const std::string source = directory_.Path("source");
    const std::string path = directory_.Path(recipe.name);
    QemuImg("create -q -f qcow2 -o cluster_size=4k " + source + " 512k");
    QemuIo(source, {"write -P 65 0 40k", "write -P 66 100k 3k",
                    "write -P 67 300k 50k"});
    const std::string options =
        *recipe.options != 0 ? std::string("-o ") + recipe.options + " " : "";
    if (recipe.format == std::string("qcow") && recipe.compressed) {
      // All of it is written, yet the tool always says that it failed.
      RunTool({"qemu-img", "convert", "-q", "-c", "-f", "qcow2", "-O", "qcow",
               source, path});
    } else {
      QemuImg(absl::StrCat("convert -q -f qcow2 -O ", recipe.format, " ",
                           recipe.compressed ? "-c " : "", options, source, " ",
                           path));
    }
    if (recipe.snapshot) {
      QemuImg("snapshot -c before " + path);
      QemuIo(path, {"write -P 68 8k 9k", "write -z 300k 20k", "discard 0 4k"});
    }
    std::ifstream file(path, std::ios::binary);
    images_.push_back(
        {recipe.name, std::string((std::istreambuf_iterator<char>(file)),
                                  std::istreambuf_iterator<char>())});
  }
}

// Header fields, entries of the L1, L2 and refcount tables, snapshot tables,
// and the bytes of clusters.
void DifferentialRig::Spoil(std::string* image, std::mt19937_64* random) {
  const bool v1 = Load(*image, 4, 4) == 1;
  const uint64_t l1 = Load(*image, 40, 8);
  const uint64_t l2 = Load(*image, l1, 8) & kOffsetMask;
  const uint64_t r = (*random)();
  uint64_t at = 0;
  unsigned bytes = 8;
  switch (r % 8) {
    case 0:
      at = 8 + (r >> 8) % (v1 ? 6 : 26) * 4;
      bytes = 4;
      break;
    case 1:
      at = l1 + (r >> 8) % 4 * 8;
      break;
    case 2:
      at = v1 ? l1 : Load(*image, 48, 8) + (r >> 8) % 2 * 8;
      break;
    case 3:
      at = v1 ? l2 : (Load(*image, Load(*image, 48, 8), 8)) + (r >> 8) % 40;
      break;
    case 4:
      at = (r >> 8) % image->size() & ~uint64_t{7};
      break;
    default:
      at = l2 + (r >> 8) % 128 * 8;
  }
  Store(image, at, bytes, Hostile(*image, Load(*image, at, bytes), random));
}

DifferentialRig::Outcome DifferentialRig::Judge(uint64_t seed) {
  std::mt19937_64 random(seed);
  const Original& original = images_[seed % images_.size()];
  std::string image = original.bytes;
  if (seed >= images_.size()) {
    for (uint64_t i = 0; i <= random() % 3; ++i) Spoil(&image, &random);
  }
  Outcome outcome;
  auto disk = std::make_shared<MemoryDisk>();
  disk->bytes = image;
  MemoryFile checked(disk);
  (void)Check(checked, kSetUpBudget);
  std::vector<ChainFile> files;
  files.push_back({std::make_unique<MemoryFile>(disk), true, "disk"});
  auto layers = OpenLayers(std::move(files), 1 << 20);
  if (!layers.ok()) return outcome;
  std::vector<ChainFile> again;
  again.push_back({std::make_unique<MemoryFile>(disk), true, "disk"});
  auto pool = WorkerPool::Create(0, AtEnd::kJoin);
  auto engine = OpenChain(std::move(again), *std::move(pool),
                          {.engine = {.read_only = true}});
  if (!engine.ok()) return outcome;
  outcome.opened = true;
  Rig rig(*std::move(engine));
  const uint64_t size = rig.backend().geometry().capacity_bytes;
  if (size > (8 << 20)) return outcome;  // QEMU would take its time

  const std::string path = directory_.Path("spoiled");
  const std::string raw = directory_.Path("spoiled.raw");
  std::ofstream(path, std::ios::binary) << image;
  const bool v1 = (*layers)[0].image->header().version == 1;
  const ToolResult converted =
      RunTool({"timeout", "20", "qemu-img", "convert", "--salvage", "-f",
               v1 ? "qcow" : "qcow2", "-O", "raw", path, raw});
  std::string by_qemu;
  if (converted.exit_status == 0) {
    std::ifstream file(raw, std::ios::binary);
    by_qemu.assign((std::istreambuf_iterator<char>(file)),
                   std::istreambuf_iterator<char>());
    outcome.qemu_answered = true;
  }
  const bool salvaged = converted.output.find("error") != std::string::npos;
  LibqcowOracle libqcow(image);
  for (uint64_t at = 0; at < size; at += kPiece) {
    std::string ours;
    if (rig.Read(at, kPiece, &ours) != IoStatus::kOk) continue;
    const auto differ = [&](const char* who) {
      return absl::StrCat(original.name, ", seed ", seed, ": at ", at, " ", who,
                          " reads something else (", HashOf(ours), ")");
    };
    if (at + kPiece <= by_qemu.size()) {
      const std::string theirs = by_qemu.substr(at, kPiece);
      const bool may_be_unread = salvaged && theirs == std::string(kPiece, 0);
      if (theirs != ours && !may_be_unread) {
        outcome.complaint = differ("QEMU");
        return outcome;
      }
      outcome.compared_bytes += kPiece;
    }
    const auto place = Locate(*layers, at, kPiece);
    if (!place.ok() || (place->extent.kind != Extent::Kind::kData &&
                        place->extent.kind != Extent::Kind::kCompressed)) {
      continue;
    }
    // Behind the file's end, where a last cluster is cut short, there are
    // zeroes. QEMU says so too; libqcow hands out what its buffer held.
    if (place->extent.kind == Extent::Kind::kData &&
        place->extent.host_offset + kPiece > image.size()) {
      continue;
    }
    std::string theirs;
    if (!libqcow.Read(at, kPiece, &theirs)) continue;
    outcome.libqcow_answered = true;
    if (theirs != ours) {
      outcome.complaint = differ("libqcow");
      return outcome;
    }
  }
  return outcome;
}

}  // namespace bulkhead::block::qcow2
