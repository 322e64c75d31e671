#include "services/block/qcow2/header.h"

#include <string.h>

#include <algorithm>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "services/block/qcow2/decoder.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr unsigned kUsualClusterBits = 16;
constexpr uint64_t kKnownIncompatible =
    kDirty | kCorrupt | kExternalData | kCompressionType | kExtendedL2;

absl::Status Invalid(absl::string_view what) {
  return absl::InvalidArgumentError(what);
}

// [offset, offset + bytes) lies in the file and starts a cluster.
bool Holds(uint64_t file_bytes, uint64_t cluster_bytes, uint64_t offset,
           uint64_t bytes) {
  return offset % cluster_bytes == 0 && offset != 0 && offset <= file_bytes &&
         bytes <= file_bytes - offset;
}

// What the specification calls a bit; else what the image calls it.
std::string FeatureName(const std::vector<RawFeatureName>& names, uint8_t type,
                        unsigned bit) {
  static constexpr struct {
    uint8_t type;
    unsigned bit;
    const char* name;
  } kKnown[] = {{0, 0, "dirty"},
                {0, 1, "corrupt"},
                {0, 2, "external data file"},
                {0, 3, "compression type"},
                {0, 4, "extended L2 entries"},
                {1, 0, "lazy refcounts"},
                {2, 0, "bitmaps"},
                {2, 1, "raw external data"}};
  for (const auto& known : kKnown) {
    if (known.type == type && known.bit == bit) return known.name;
  }
  for (const RawFeatureName& name : names) {
    if (name.type != type || name.bit != bit) continue;
    const absl::string_view text(name.name,
                                 strnlen(name.name, sizeof(name.name)));
    return absl::StrCat("\"", absl::CHexEscape(text), "\" (bit ", bit, ")");
  }
  return absl::StrCat("bit ", bit);
}

void NameFeatures(const std::vector<RawFeatureName>& names, Header* header) {
  const uint64_t bits[] = {header->incompatible, header->compatible,
                           header->autoclear};
  for (uint8_t type = 0; type < 3; ++type) {
    for (unsigned bit = 0; bit < 64; ++bit) {
      if ((bits[type] >> bit & 1) == 0) continue;
      const std::string name = FeatureName(names, type, bit);
      if (type == 0 && (~kKnownIncompatible >> bit & 1) != 0) {
        header->unknown_features.push_back(name);
      }
      header->features.push_back(name);
    }
  }
}

// What contradicts itself, supported or not.
absl::Status CheckSense(const Header& header) {
  const bool says_type = (header.incompatible & kCompressionType) != 0;
  if (says_type != (header.compression != kZlib)) {
    return Invalid("compression type and its feature bit disagree");
  }
  if (header.extended_l2() && header.cluster_bits < 14) {
    return Invalid("extended L2 entries need clusters of 16 KiB or more");
  }
  return absl::OkStatus();
}

// "Header extensions": those that matter here; unknown ones may be ignored.
absl::Status ReadExtensions(const std::vector<uint8_t>& bytes, uint64_t at,
                            uint64_t end, Header* header,
                            std::vector<RawFeatureName>* names) {
  while (at + sizeof(RawExtension) <= end) {
    RawExtension extension;
    memcpy(&extension, bytes.data() + at, sizeof(extension));
    at += sizeof(extension);
    const uint32_t type = extension.type;
    const uint64_t length = extension.length;
    if (type == kExtensionEnd) return absl::OkStatus();
    if (length > end - at) return Invalid("a header extension is too long");
    if (type == kExtensionBackingFormat) {
      header->backing_format.assign(
          reinterpret_cast<const char*>(bytes.data() + at), length);
    } else if (type == kExtensionFeatureNames) {
      names->resize(length / sizeof(RawFeatureName));
      if (!names->empty()) {
        memcpy(names->data(), bytes.data() + at,
               names->size() * sizeof(RawFeatureName));
      }
    } else if (type == kExtensionBitmaps) {
      if (length != sizeof(RawBitmapsExtension)) {
        return Invalid("the bitmaps extension has a wrong length");
      }
      RawBitmapsExtension bitmaps;
      memcpy(&bitmaps, bytes.data() + at, sizeof(bitmaps));
      header->has_bitmaps = true;
      header->bitmaps = bitmaps.nb_bitmaps;
      header->bitmap_directory_bytes = bitmaps.bitmap_directory_size;
      header->bitmap_directory_offset = bitmaps.bitmap_directory_offset;
    }
    at += (length + 7) / 8 * 8;
  }
  return absl::OkStatus();
}

// The fields by themselves, before any table is looked for.
absl::Status TakeFields(const RawHeader& raw, uint32_t header_length,
                        Header* header) {
  header->version = raw.version;
  header->cluster_bits = raw.cluster_bits;
  header->size_bytes = raw.size;
  header->l1_entries = raw.l1_size;
  header->l1_offset = raw.l1_table_offset;
  header->refcount_table_offset = raw.refcount_table_offset;
  header->refcount_table_clusters = raw.refcount_table_clusters;
  header->snapshots = raw.nb_snapshots;
  header->snapshots_offset = raw.snapshots_offset;
  if (header->version == 3) {
    header->incompatible = raw.incompatible_features;
    header->compatible = raw.compatible_features;
    header->autoclear = raw.autoclear_features;
    header->refcount_order = raw.refcount_order;
    if (header_length > kVersion3Length) {
      header->compression = raw.compression_type;
    }
  }
  if (raw.cluster_bits < kMinClusterBits ||
      raw.cluster_bits > kMaxClusterBits) {
    return Invalid(absl::StrCat("cluster_bits is ", uint32_t{raw.cluster_bits},
                                "; 9 to 21 are possible"));
  }
  if (header->refcount_order > kMaxRefcountOrder) {
    return Invalid("refcounts of more than 64 bits");
  }
  if (header->size_bytes == 0) return Invalid("the disk has no size");
  if (header->size_bytes > kMaxVirtualSize) {
    return Invalid("the disk is absurdly large");
  }
  header->crypt_method = raw.crypt_method;
  return absl::OkStatus();
}

// Where the tables lie.
absl::Status CheckTables(const Header& header, uint64_t file_bytes) {
  const uint64_t cluster = header.cluster_bytes();
  const uint64_t per_table = header.bytes_per_l2_table();
  const uint64_t needed = (header.size_bytes + per_table - 1) / per_table;
  const uint64_t l1_bytes = uint64_t{header.l1_entries} * 8;
  if (l1_bytes > kMaxL1Bytes) return Invalid("the L1 table is too large");
  if (header.l1_entries < needed) {
    return Invalid(absl::StrCat("the L1 table has ", header.l1_entries,
                                " entries; the disk's size needs ", needed));
  }
  if (!Holds(file_bytes, cluster, header.l1_offset, l1_bytes)) {
    return Invalid("the L1 table is not inside the file");
  }
  const uint64_t refcount_table_bytes = uint64_t{header.refcount_table_clusters}
                                        << header.cluster_bits;
  if (refcount_table_bytes == 0 ||
      refcount_table_bytes > std::max(kMaxRefcountTableBytes, cluster)) {
    return Invalid("the refcount table has an impossible size");
  }
  if (!Holds(file_bytes, cluster, header.refcount_table_offset,
             refcount_table_bytes)) {
    return Invalid("the refcount table is not inside the file");
  }
  if (header.snapshots > kMaxSnapshots) return Invalid("too many snapshots");
  if (header.snapshots > 0 &&
      !Holds(file_bytes, cluster, header.snapshots_offset,
             sizeof(RawSnapshot))) {
    return Invalid("the snapshot table is not inside the file");
  }
  return absl::OkStatus();
}

absl::Status ReadBackingName(uint64_t offset, uint64_t length,
                             const std::vector<uint8_t>& bytes, uint64_t limit,
                             Header* header) {
  if (offset == 0) return absl::OkStatus();
  const uint64_t end = std::min<uint64_t>(limit, bytes.size());
  if (length > kMaxBackingNameBytes || length > end || offset > end - length) {
    return Invalid("the name of the backing file is not in the first cluster");
  }
  header->backing_name.assign(reinterpret_cast<const char*>(&bytes[offset]),
                              length);
  if (header->backing_name.find('\0') != std::string::npos) {
    return Invalid("the name of the backing file holds a NUL");
  }
  return absl::OkStatus();
}

// Version 1. `bytes` is the start of the file.
absl::StatusOr<Header> TakeV1(const std::vector<uint8_t>& bytes,
                              uint64_t file_bytes) {
  constexpr uint64_t kNamesEnd = 64 << 10;
  RawHeaderV1 raw;
  memcpy(&raw, bytes.data(), sizeof(raw));
  Header header;
  header.version = 1;
  header.cluster_bits = raw.cluster_bits;
  header.v1_l2_bits = raw.l2_bits;
  header.size_bytes = raw.size;
  header.l1_offset = raw.l1_table_offset;
  header.refcount_order = 0;
  if (raw.cluster_bits < kMinClusterBits ||
      raw.cluster_bits > kV1MaxClusterBits || raw.l2_bits < kV1MinL2Bits ||
      raw.l2_bits > kV1MaxL2Bits) {
    return Invalid(
        "cluster_bits or l2_bits of a version 1 image is impossible");
  }
  if (header.size_bytes == 0) return Invalid("the disk has no size");
  if (header.size_bytes > kMaxVirtualSize) {
    return Invalid("the disk is absurdly large");
  }
  header.crypt_method = raw.crypt_method;
  const uint64_t per_table = header.bytes_per_l2_table();
  const uint64_t needed = (header.size_bytes + per_table - 1) / per_table;
  if (needed * 8 > kMaxL1Bytes) return Invalid("the L1 table is too large");
  header.l1_entries = static_cast<uint32_t>(needed);
  if (header.l1_offset < sizeof(raw) || header.l1_offset > file_bytes ||
      needed * 8 > file_bytes - header.l1_offset) {
    return Invalid("the L1 table is not inside the file");
  }
  if (absl::Status s =
          ReadBackingName(raw.backing_file_offset, raw.backing_file_size, bytes,
                          kNamesEnd, &header);
      !s.ok()) {
    return s;
  }
  return header;
}

}  // namespace

absl::Status CheckFeatures(const Header& header) {
  if (!header.unknown_features.empty()) {
    return absl::UnimplementedError(
        absl::StrCat("unsupported qcow2 feature: ",
                     absl::StrJoin(header.unknown_features, ", ")));
  }
  if ((header.incompatible & kExternalData) != 0) {
    return absl::UnimplementedError(
        "unsupported qcow2 feature: external data file");
  }
  if (header.compression > kZstd) {
    return absl::UnimplementedError(absl::StrCat(
        "unsupported qcow2 feature: compression type ", header.compression));
  }
  if (header.crypt_method == kCryptLuks) {
    return absl::UnimplementedError(
        "unsupported qcow2 feature: LUKS encryption");
  }
  if (header.crypt_method != kCryptNone && header.crypt_method != kCryptAes) {
    return absl::UnimplementedError(absl::StrCat(
        "unsupported qcow2 feature: encryption method ", header.crypt_method));
  }
  if (header.extended_l2() && header.encrypted()) {
    return absl::UnimplementedError(
        "unsupported qcow2 features together: extended L2 entries and legacy "
        "AES encryption");
  }
  return absl::OkStatus();
}

absl::StatusOr<Header> ReadHeader(FileIo& file) {
  auto header = DescribeHeader(file);
  if (!header.ok()) return header.status();
  if (absl::Status s = CheckFeatures(*header); !s.ok()) return s;
  return header;
}

absl::StatusOr<Header> DescribeHeader(FileIo& file) {
  const int64_t file_bytes = file.Size();
  if (file_bytes < int64_t{sizeof(RawHeaderV1)}) {
    return Invalid("not a qcow2 image: the file is too short");
  }
  // The header and its extensions lie in the first cluster, which is seldom
  // larger than this.
  std::vector<uint8_t> bytes;
  RawHeader raw = {};
  for (const uint32_t bits : {kUsualClusterBits, kMaxClusterBits}) {
    bytes.resize(std::min<uint64_t>(uint64_t{1} << bits, file_bytes));
    if (const int error =
            ReadBytes(file, bytes.data(), bytes.size(), 0, BeyondEnd::kFails);
        error != 0) {
      return Invalid(absl::StrCat("reading the header: ", strerror(-error)));
    }
    memcpy(&raw, bytes.data(), std::min(bytes.size(), sizeof(raw)));
    if (raw.version == 1 || raw.cluster_bits <= bits) break;
  }
  if (!HasQcowSignature(file)) return Invalid("not a qcow2 image");
  if (raw.version == 1) {
    return TakeV1(bytes, static_cast<uint64_t>(file_bytes));
  }
  if (bytes.size() < kVersion2Length) {
    return Invalid("not a qcow2 image: the file is too short");
  }
  if (raw.version != 2 && raw.version != 3) {
    return absl::UnimplementedError(
        absl::StrCat("unsupported qcow version ", uint32_t{raw.version}));
  }
  const uint32_t header_length =
      raw.version == 2 ? kVersion2Length : uint32_t{raw.header_length};
  Header header;
  if (raw.version == 3 &&
      (header_length < kVersion3Length || header_length % 8 != 0)) {
    return Invalid("the header has an impossible length");
  }
  if (absl::Status s = TakeFields(raw, header_length, &header); !s.ok()) {
    return s;
  }
  const uint64_t cluster = header.cluster_bytes();
  uint64_t extensions_end = std::min<uint64_t>(cluster, bytes.size());
  if (header_length > extensions_end) {
    return Invalid("the header is longer than a cluster");
  }
  if (absl::Status s =
          ReadBackingName(raw.backing_file_offset, raw.backing_file_size, bytes,
                          cluster, &header);
      !s.ok()) {
    return s;
  }
  if (raw.backing_file_offset != 0) {
    extensions_end =
        std::min<uint64_t>(extensions_end, uint64_t{raw.backing_file_offset});
  }
  std::vector<RawFeatureName> names;
  if (absl::Status s =
          ReadExtensions(bytes, header_length, extensions_end, &header, &names);
      !s.ok()) {
    return s;
  }
  NameFeatures(names, &header);
  if (absl::Status s = CheckSense(header); !s.ok()) return s;
  if (absl::Status s = CheckTables(header, static_cast<uint64_t>(file_bytes));
      !s.ok()) {
    return s;
  }
  return header;
}

}  // namespace bulkhead::block::qcow2
