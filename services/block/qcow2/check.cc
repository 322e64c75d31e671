#include "services/block/qcow2/check.h"

#include <string.h>

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "services/block/qcow2/refcounts.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr uint64_t kMaxBitmapDirectoryBytes = 64 << 20;

// One walk over everything that refers to clusters.
class Walk {
 public:
  Walk(FileIo& file, const Header& header, const CheckBudget& budget,
       CheckReport* report)
      : file_(file),
        header_(header),
        report_(*report),
        table_bytes_left_(budget.table_bytes),
        file_bytes_(static_cast<uint64_t>(std::max<int64_t>(0, file.Size()))),
        uses_((file_bytes_ + header.cluster_bytes() - 1) >>
              header.cluster_bits),
        l2_(header.cluster_bytes()) {}

  absl::Status Run() {
    Use(0, header_.cluster_bytes(), "the header");
    absl::Status status =
        WalkL1(header_.l1_offset, header_.l1_entries, "the L1 table");
    if (status.ok()) status = WalkRefcounts();
    if (status.ok()) status = WalkSnapshots();
    if (status.ok()) status = WalkBitmaps();
    return status;
  }
  std::vector<uint32_t> TakeUses() { return std::move(uses_); }

 private:
  void Use(uint64_t offset, uint64_t bytes, absl::string_view what) {
    if (bytes == 0) return;
    const unsigned bits = header_.cluster_bits;
    if (offset >= file_bytes_ || bytes > kMaxVirtualSize ||
        (offset + bytes - 1) >> bits >= uses_.size()) {
      report_.Corruption(
          absl::StrCat(what, " at ", offset, " lies outside the file"));
      return;
    }
    for (uint64_t c = offset >> bits; c <= (offset + bytes - 1) >> bits; ++c) {
      if (uses_[c] < ~uint32_t{0}) ++uses_[c];
    }
  }

  absl::Status Spend(uint64_t table_bytes) {
    if (table_bytes <= table_bytes_left_) {
      table_bytes_left_ -= table_bytes;
      return absl::OkStatus();
    }
    return absl::ResourceExhaustedError(
        "its tables are too many to be walked here; qemu-img check -r all "
        "looks at all of them");
  }

  absl::StatusOr<std::vector<Be64>> Table(uint64_t offset, uint64_t entries,
                                          absl::string_view what) {
    if (entries * 8 > file_bytes_ || offset > file_bytes_ - entries * 8) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, " lies outside the file"));
    }
    if (absl::Status s = Spend(entries * 8); !s.ok()) return s;
    std::vector<Be64> table(entries);
    if (const int error = ReadBytes(file_, table.data(), entries * 8, offset,
                                    BeyondEnd::kFails);
        error != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("reading ", what, ": ", strerror(-error)));
    }
    return table;
  }

  absl::Status WalkL1(uint64_t offset, uint64_t entries,
                      absl::string_view what) {
    if (offset % header_.cluster_bytes() != 0) {
      return absl::InvalidArgumentError(absl::StrCat(what, " is misaligned"));
    }
    auto l1 = Table(offset, entries, what);
    if (!l1.ok()) return l1.status();
    Use(offset, entries * 8, what);
    for (const uint64_t entry : *l1) {
      const uint64_t table = entry & kOffsetMask;
      if (table == 0) continue;
      if (table % header_.cluster_bytes() != 0 || (entry & kL1Reserved) != 0) {
        report_.Corruption(absl::StrCat("L1 entry ", entry, " in ", what));
        continue;
      }
      Use(table, header_.cluster_bytes(), "an L2 table");
      if (table >= file_bytes_) continue;
      if (absl::Status s = Spend(header_.cluster_bytes()); !s.ok()) return s;
      WalkL2(table);
    }
    return absl::OkStatus();
  }

  void WalkL2(uint64_t offset) {
    if (ReadBytes(file_, l2_.data(), l2_.size(), offset,
                  BeyondEnd::kReadsZeroes) != 0) {
      report_.Corruption("an L2 table cannot be read");
      return;
    }
    const size_t step = header_.extended_l2() ? 16 : 8;
    for (size_t at = 0; at < l2_.size(); at += step) {
      const uint64_t entry = LoadBe64(&l2_[at]);
      if (header_.extended_l2()) WalkBitmap(entry, LoadBe64(&l2_[at + 8]));
      WalkEntry(entry);
    }
  }

  // Both bits of a subcluster, data in no cluster, subclusters of a compressed
  // one: none of them means anything.
  void WalkBitmap(uint64_t entry, uint64_t bitmap) {
    const uint64_t allocated = bitmap & kAllSubclustersAllocated;
    const bool compressed = (entry & kCompressed) != 0;
    if ((allocated & bitmap >> kSubclusters) != 0 ||
        (compressed && bitmap != 0) ||
        (!compressed && allocated != 0 && (entry & kOffsetMask) == 0)) {
      report_.Corruption(
          absl::StrCat("the subclusters of L2 entry ", entry, " lie"));
    }
  }

  void WalkEntry(uint64_t entry) {
    if ((entry & kCompressed) != 0) {
      const unsigned bits = 62 - (header_.cluster_bits - 8);
      const uint64_t descriptor = entry & (kCompressed - 1);
      const uint64_t host = descriptor & ((uint64_t{1} << bits) - 1);
      const uint64_t bytes =
          ((descriptor >> bits) + 1) * kCompressedSectorBytes -
          host % kCompressedSectorBytes;
      ++report_.compressed_clusters;
      // The last sectors may be beyond the end, if their cluster is not.
      Use(host, bytes, "a compressed cluster");
      return;
    }
    const uint64_t host = entry & kOffsetMask;
    if (host == 0) return;
    ++report_.data_clusters;
    if (host % header_.cluster_bytes() != 0) {
      report_.Corruption(absl::StrCat("data at ", host, " is misaligned"));
      return;
    }
    Use(host, header_.cluster_bytes(), "data");
  }

  absl::Status WalkRefcounts() {
    const uint64_t entries =
        (uint64_t{header_.refcount_table_clusters} << header_.cluster_bits) / 8;
    Use(header_.refcount_table_offset, entries * 8, "the refcount table");
    auto table =
        Table(header_.refcount_table_offset, entries, "the refcount table");
    if (!table.ok()) return table.status();
    for (const uint64_t block : *table) {
      if (block == 0) continue;
      if (block % header_.cluster_bytes() != 0) {
        report_.Corruption(
            absl::StrCat("a refcount block at ", block, " is misaligned"));
        continue;
      }
      Use(block, header_.cluster_bytes(), "a refcount block");
    }
    return absl::OkStatus();
  }

  absl::Status WalkSnapshots() {
    uint64_t at = header_.snapshots_offset;
    for (uint32_t i = 0; i < header_.snapshots; ++i) {
      RawSnapshot snapshot;
      if (ReadBytes(file_, &snapshot, sizeof(snapshot), at,
                    BeyondEnd::kFails) != 0) {
        return absl::InvalidArgumentError("the snapshot table is cut off");
      }
      const uint64_t length = sizeof(snapshot) + snapshot.extra_data_size +
                              uint64_t{snapshot.id_str_size} +
                              snapshot.name_size;
      at += (length + 7) / 8 * 8;
      if (at - header_.snapshots_offset > kMaxSnapshotTableBytes) {
        return absl::InvalidArgumentError("the snapshot table is too large");
      }
      if (uint64_t{snapshot.l1_size} * 8 > kMaxL1Bytes) {
        return absl::InvalidArgumentError("a snapshot's L1 table is too large");
      }
      if (absl::Status s = WalkL1(snapshot.l1_table_offset, snapshot.l1_size,
                                  "a snapshot's L1 table");
          !s.ok()) {
        return s;
      }
    }
    if (header_.snapshots > 0) {
      Use(header_.snapshots_offset, at - header_.snapshots_offset,
          "the snapshot table");
    }
    return absl::OkStatus();
  }

  // Bitmaps count only while they are said to be up to date.
  absl::Status WalkBitmaps() {
    if (!header_.has_bitmaps || (header_.autoclear & kBitmapsConsistent) == 0) {
      return absl::OkStatus();
    }
    const uint64_t bytes = header_.bitmap_directory_bytes;
    if (bytes > kMaxBitmapDirectoryBytes || bytes > file_bytes_) {
      return absl::InvalidArgumentError("the bitmap directory is too large");
    }
    Use(header_.bitmap_directory_offset, bytes, "the bitmap directory");
    std::vector<uint8_t> directory(bytes);
    if (ReadBytes(file_, directory.data(), bytes,
                  header_.bitmap_directory_offset, BeyondEnd::kFails) != 0) {
      return absl::InvalidArgumentError("the bitmap directory is cut off");
    }
    uint64_t at = 0;
    for (uint32_t i = 0; i < header_.bitmaps; ++i) {
      RawBitmapDirectoryEntry entry;
      if (bytes - at < sizeof(entry)) {
        return absl::InvalidArgumentError("the bitmap directory is too short");
      }
      memcpy(&entry, &directory[at], sizeof(entry));
      const uint64_t length = (sizeof(entry) + uint64_t{entry.extra_data_size} +
                               entry.name_size + 7) /
                              8 * 8;
      if (length > bytes - at) {
        return absl::InvalidArgumentError("the bitmap directory is too short");
      }
      at += length;
      const uint64_t entries = entry.bitmap_table_size;
      auto table = Table(entry.bitmap_table_offset, entries, "a bitmap table");
      if (!table.ok()) return table.status();
      Use(entry.bitmap_table_offset, entries * 8, "a bitmap table");
      for (const uint64_t cluster : *table) {
        if ((cluster & kOffsetMask) != 0) {
          Use(cluster & kOffsetMask, header_.cluster_bytes(), "a bitmap");
        }
      }
    }
    return absl::OkStatus();
  }

  FileIo& file_;
  const Header& header_;
  CheckReport& report_;
  uint64_t table_bytes_left_;
  const uint64_t file_bytes_;
  std::vector<uint32_t> uses_;
  std::vector<uint8_t> l2_;
};

// "COPIED: set if and only if the refcount is exactly one", of what the
// active tables refer to.
class CopiedFlags {
 public:
  CopiedFlags(FileIo& file, const Header& header, Refcounts& refcounts,
              CheckReport* report)
      : file_(file), header_(header), refcounts_(refcounts), report_(*report) {}

  void Run() {
    std::vector<Be64> l1(header_.l1_entries);
    if (ReadBytes(file_, l1.data(), l1.size() * 8, header_.l1_offset,
                  BeyondEnd::kFails) != 0) {
      return;
    }
    std::vector<uint8_t> l2(header_.cluster_bytes());
    const size_t step = header_.extended_l2() ? 16 : 8;
    for (const uint64_t entry : l1) {
      const uint64_t table = entry & kOffsetMask;
      if (table == 0) continue;
      Verify(entry, "an L2 table");
      if (ReadBytes(file_, l2.data(), l2.size(), table,
                    BeyondEnd::kReadsZeroes) != 0) {
        continue;
      }
      for (size_t at = 0; at < l2.size(); at += step) {
        const uint64_t data = LoadBe64(&l2[at]);
        if ((data & kCompressed) != 0) {
          if ((data & kCopied) != 0) {
            report_.Corruption("a compressed cluster is flagged COPIED");
          }
        } else if ((data & kOffsetMask) != 0) {
          Verify(data, "data");
        }
      }
    }
  }

 private:
  void Verify(uint64_t entry, absl::string_view what) {
    const uint64_t host = entry & kOffsetMask;
    uint64_t count = 0;
    if (refcounts_.Get(host >> header_.cluster_bits, &count) != 0) return;
    if ((count == 1) != ((entry & kCopied) != 0)) {
      report_.Corruption(absl::StrCat("the COPIED flag of ", what, " at ", host,
                                      " lies: its refcount is ", count));
    }
  }

  FileIo& file_;
  const Header& header_;
  Refcounts& refcounts_;
  CheckReport& report_;
};

}  // namespace

void CheckReport::Corruption(std::string what) {
  ++corruptions;
  if (first_problem.empty()) first_problem = std::move(what);
}

absl::StatusOr<std::vector<uint32_t>> CountUses(FileIo& file,
                                                const Header& header,
                                                const CheckBudget& budget,
                                                CheckReport* report) {
  if (header.version == 1) {
    return absl::InvalidArgumentError(
        "a version 1 image has no refcounts to check");
  }
  if (static_cast<uint64_t>(file.Size()) >> header.cluster_bits >
      budget.clusters) {
    return absl::ResourceExhaustedError(
        "its clusters are too many to be counted here; qemu-img check -r all "
        "counts all of them");
  }
  Walk walk(file, header, budget, report);
  if (absl::Status s = walk.Run(); !s.ok()) return s;
  return walk.TakeUses();
}

absl::StatusOr<CheckReport> Check(FileIo& file, const CheckBudget& budget) {
  auto header = ReadHeader(file);
  if (!header.ok()) return header.status();
  CheckReport report;
  auto uses = CountUses(file, *header, budget, &report);
  if (!uses.ok()) return uses.status();
  auto refcounts = Refcounts::Open(&file, *header);
  if (!refcounts.ok()) return refcounts.status();
  for (uint64_t cluster = 0; cluster < uses->size(); ++cluster) {
    uint64_t count = 0;
    if ((*refcounts)->Get(cluster, &count) != 0) {
      report.Corruption("a refcount block cannot be read");
      break;
    }
    const uint64_t used = (*uses)[cluster];
    if (count < used) {
      report.Corruption(absl::StrCat("cluster ", cluster, " is used ", used,
                                     " times and counted ", count));
    } else if (count > used) {
      ++report.leaks;
    }
  }
  CopiedFlags(file, *header, **refcounts, &report).Run();
  return report;
}

absl::Status RebuildRefcounts(FileIo& file, Header* header,
                              const CheckBudget& budget) {
  CheckReport report;
  auto uses = CountUses(file, *header, budget, &report);
  if (!uses.ok()) return uses.status();
  if (report.corruptions > 0) {
    return absl::InvalidArgumentError(report.first_problem);
  }
  auto refcounts = Refcounts::Open(&file, *header);
  if (!refcounts.ok()) return refcounts.status();
  const auto is_used = [&uses](uint64_t cluster) {
    return cluster < uses->size() && (*uses)[cluster] > 0;
  };
  const auto failed = [](int error) {
    return absl::InvalidArgumentError(
        absl::StrCat("its refcounts cannot be repaired: ", strerror(-error)));
  };
  // Only what is counted too low is dangerous. What is counted too high is
  // a leak, for qemu-img check to repair.
  for (uint64_t cluster = 0; cluster < uses->size(); ++cluster) {
    uint64_t count = 0;
    int error = (*refcounts)->Get(cluster, &count);
    if (error == 0 && count < (*uses)[cluster]) {
      error = (*refcounts)->Set(cluster, (*uses)[cluster], is_used);
    }
    if (error != 0) return failed(error);
  }
  // Counts first; the bit goes when they are there.
  if (const int error = file.Sync(); error != 0) return failed(error);
  header->incompatible &= ~kDirty;
  const Be64 bits = header->incompatible;
  int error = WriteBytes(file, &bits, sizeof(bits), kIncompatibleFeaturesAt);
  if (error == 0) error = file.Sync();
  if (error != 0) return failed(error);
  // The refcount table may have moved.
  auto reread = ReadHeader(file);
  if (!reread.ok()) return reread.status();
  *header = *std::move(reread);
  return absl::OkStatus();
}

}  // namespace bulkhead::block::qcow2
