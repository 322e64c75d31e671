#include "services/block/qcow2/refcounts.h"

#include <errno.h>
#include <string.h>

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr uint64_t kCachedBytes = 2 << 20;
constexpr uint64_t kMinBlocks = 4;
constexpr uint64_t kMaxBlocks = 64;

}  // namespace

absl::StatusOr<std::unique_ptr<Refcounts>> Refcounts::Open(
    FileIo* file, const Header& header) {
  std::unique_ptr<Refcounts> refcounts(new Refcounts(file, header));
  if (absl::Status s = refcounts->ReadTable(); !s.ok()) return s;
  return refcounts;
}

Refcounts::Refcounts(FileIo* file, const Header& header)
    : file_(file),
      header_(header),
      table_offset_(header.refcount_table_offset),
      table_clusters_(header.refcount_table_clusters),
      blocks_(std::clamp(kCachedBytes >> header.cluster_bits, kMinBlocks,
                         kMaxBlocks)) {
  // In one piece, and not touched before it is used: an idle image takes none.
  block_memory_.reset(new uint8_t[blocks_.size() << header.cluster_bits]);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    blocks_[i].bytes = &block_memory_[i << header.cluster_bits];
  }
  file_bytes_ = static_cast<uint64_t>(std::max<int64_t>(0, file->Size()));
  file_clusters_ =
      (file_bytes_ + header.cluster_bytes() - 1) >> header.cluster_bits;
  opened_clusters_ = file_clusters_;
}

absl::Status Refcounts::ReadTable() {
  std::vector<Be64> raw((table_clusters_ << header_.cluster_bits) / 8);
  if (const int error = ReadBytes(*file_, raw.data(), raw.size() * 8,
                                  table_offset_, BeyondEnd::kFails);
      error != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("reading the refcount table: ", strerror(-error)));
  }
  // Room for the largest table there can be, so that it grows without asking
  // for memory. What is not used is address space only.
  table_.reserve(std::max(kMaxRefcountTableBytes, header_.cluster_bytes()) / 8);
  table_.assign(raw.begin(), raw.end());
  return absl::OkStatus();
}

uint64_t Refcounts::max_count() const {
  const unsigned bits = 1u << header_.refcount_order;
  return bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
}

// "If refcount_bits is less than 8, the counts start at the least significant
// bit of the byte."
uint64_t Refcounts::Read(const Block& block, uint64_t entry) const {
  const uint8_t* bytes = block.bytes;
  switch (header_.refcount_order) {
    case 3:
      return bytes[entry];
    case 4:
      return LoadBe16(bytes + entry * 2);
    case 5:
      return LoadBe32(bytes + entry * 4);
    case 6:
      return LoadBe64(bytes + entry * 8);
    default: {
      const unsigned bits = 1u << header_.refcount_order;
      const uint64_t at = entry * bits;
      return bytes[at / 8] >> (at % 8) & ((1u << bits) - 1);
    }
  }
}

void Refcounts::Write(Block* block, uint64_t entry, uint64_t value) const {
  uint8_t* bytes = block->bytes;
  switch (header_.refcount_order) {
    case 3:
      bytes[entry] = static_cast<uint8_t>(value);
      return;
    case 4:
      StoreBe16(bytes + entry * 2, static_cast<uint16_t>(value));
      return;
    case 5:
      StoreBe32(bytes + entry * 4, static_cast<uint32_t>(value));
      return;
    case 6:
      StoreBe64(bytes + entry * 8, value);
      return;
    default: {
      const unsigned bits = 1u << header_.refcount_order;
      const uint64_t at = entry * bits;
      const unsigned mask = ((1u << bits) - 1) << (at % 8);
      bytes[at / 8] = static_cast<uint8_t>((bytes[at / 8] & ~mask) |
                                           (value << (at % 8) & mask));
    }
  }
}

int Refcounts::Store(const Block& block, uint64_t first_entry, uint64_t count) {
  const uint64_t bits = uint64_t{1} << header_.refcount_order;
  const uint64_t from = first_entry * bits / 8;
  const uint64_t to = ((first_entry + count) * bits + 7) / 8;
  return WriteBytes(*file_, block.bytes + from, to - from,
                    table_[block.table_index] + from);
}

Refcounts::Block* Refcounts::Victim() {
  Block* victim = &blocks_[0];
  for (Block& block : blocks_) {
    if (block.table_index == kNone) return &block;
    if (block.last_use < victim->last_use) victim = &block;
  }
  return victim;
}

int Refcounts::Load(uint64_t table_index, Block** block) {
  *block = nullptr;
  for (Block& cached : blocks_) {
    if (cached.table_index == table_index) {
      cached.last_use = ++use_;
      *block = &cached;
      return 0;
    }
  }
  if (table_index >= table_.size() || table_[table_index] == 0) return 0;
  const uint64_t offset = table_[table_index];
  if (offset % header_.cluster_bytes() != 0 || offset >= file_bytes_) {
    return -EUCLEAN;
  }
  Block* victim = Victim();
  victim->table_index = kNone;
  if (const int error =
          ReadBytes(*file_, victim->bytes, header_.cluster_bytes(), offset,
                    BeyondEnd::kReadsZeroes);
      error != 0) {
    return error;
  }
  victim->table_index = table_index;
  victim->last_use = ++use_;
  *block = victim;
  return 0;
}

int Refcounts::ExtendTo(uint64_t clusters) {
  const uint64_t bytes = clusters << header_.cluster_bits;
  if (bytes <= file_bytes_) return 0;
  if (!file_->is_sparse()) return -ENOSPC;
  if (const int error = file_->Truncate(bytes); error != 0) return error;
  file_bytes_ = bytes;
  file_clusters_ = clusters;
  return 0;
}

// A block that counts clusters of which none is counted yet lies best in the
// first of them that is not taken: it then counts itself.
int Refcounts::PlaceOfNewBlock(uint64_t table_index, uint64_t* cluster) {
  const uint64_t first = table_index * block_entries();
  for (uint64_t i = 0; i < block_entries(); ++i) {
    if (first + i > 0 && MayUse(first + i)) {
      *cluster = first + i;
      return 0;
    }
  }
  // Only in repairs: all of them are taken. Behind everything else.
  uint64_t place = file_clusters_;
  while (!MayUse(place)) ++place;
  *cluster = place;
  return 0;
}

int Refcounts::CreateBlock(uint64_t table_index, uint64_t cluster,
                           Block** block) {
  Block* fresh = Victim();
  fresh->table_index = kNone;
  memset(fresh->bytes, 0, header_.cluster_bytes());
  if (const int error = ExtendTo(cluster + 1); error != 0) return error;
  const bool counts_itself = cluster / block_entries() == table_index;
  if (counts_itself) Write(fresh, cluster % block_entries(), 1);
  const uint64_t offset = cluster << header_.cluster_bits;
  int error = WriteBytes(*file_, fresh->bytes, header_.cluster_bytes(), offset);
  if (error == 0) error = file_->Sync();
  if (error != 0) return error;
  Be64 entry = offset;
  error = WriteBytes(*file_, &entry, sizeof(entry),
                     table_offset_ + table_index * 8);
  if (error == 0) error = file_->Sync();
  if (error != 0) {
    // Tried again, the block gets the same place and contents.
    table_uncertain_ = true;
    return error;
  }
  table_[table_index] = offset;
  fresh->table_index = table_index;
  fresh->last_use = ++use_;
  *block = fresh;
  // Elsewhere, its own cluster is counted by another block, and before the
  // table named this one it was nobody's.
  return counts_itself ? 0 : Increase(cluster, 1);
}

int Refcounts::LoadOrCreate(uint64_t table_index, Block** block) {
  if (const int error = Load(table_index, block); error != 0) return error;
  if (*block != nullptr) return 0;
  if (table_index >= table_.size()) {
    if (const int error = GrowTable(table_index); error != 0) return error;
    // The new table's own block may be the one.
    if (const int error = Load(table_index, block); error != 0) return error;
    if (*block != nullptr) return 0;
  }
  uint64_t cluster;
  if (const int error = PlaceOfNewBlock(table_index, &cluster); error != 0) {
    return error;
  }
  return CreateBlock(table_index, cluster, block);
}

// A larger table, and the blocks that count it, lie behind everything that the
// old table could count, so that nothing else is needed to place them.
int Refcounts::GrowTable(uint64_t table_index) {
  const uint64_t cluster = header_.cluster_bytes();
  const uint64_t entries = block_entries();
  uint64_t start = std::max(file_clusters_, table_.size() * entries);
  start = (start + entries - 1) / entries * entries;
  while (!MayUse(start)) start += entries;
  const uint64_t old_clusters = table_clusters_;
  const uint64_t old_offset = table_offset_;

  // Enough entries for the index asked for, for the new clusters themselves,
  // and to grow seldom.
  uint64_t blocks = 1;
  uint64_t clusters = 0;
  for (;;) {
    const uint64_t needed =
        std::max({table_index + 1, (start + clusters) / entries + blocks + 1,
                  table_.size() * 2});
    clusters = (needed * 8 + cluster - 1) / cluster;
    const uint64_t wanted = (clusters + blocks + entries - 1) / entries;
    if (wanted <= blocks) break;
    blocks = wanted;
  }
  if (clusters * cluster / 8 > table_.capacity()) return -EFBIG;
  // [start, start + blocks): the blocks. Behind them: the table.
  if (const int error = ExtendTo(start + blocks + clusters); error != 0) {
    return error;
  }
  // The new entries are all behind those of the old table, which stays what it
  // is until the header names the new one.
  const size_t old_size = table_.size();
  table_.resize(clusters * cluster / 8, 0);
  const int error = WriteGrownTable(start, blocks, clusters);
  if (error != 0) {
    table_.resize(old_size);
    return error;
  }
  table_offset_ = (start + blocks) << header_.cluster_bits;
  table_clusters_ = clusters;
  // Growing again before the last one was released: release it now.
  const uint64_t first = retired_first_;
  const uint64_t count = retired_count_;
  retired_first_ = old_offset >> header_.cluster_bits;
  retired_count_ = old_clusters;
  return count > 0 ? Decrease(first, count) : 0;
}

// `blocks` refcount blocks from cluster `start` on, the table of `clusters`
// behind them, then the header.
int Refcounts::WriteGrownTable(uint64_t start, uint64_t blocks,
                               uint64_t clusters) {
  const uint64_t cluster = header_.cluster_bytes();
  const uint64_t entries = block_entries();
  Block* fresh = Victim();
  fresh->table_index = kNone;
  for (uint64_t b = 0; b < blocks; ++b) {
    memset(fresh->bytes, 0, cluster);
    for (uint64_t i = 0; i < entries; ++i) {
      if (b * entries + i < blocks + clusters) Write(fresh, i, 1);
    }
    const uint64_t offset = (start + b) << header_.cluster_bits;
    if (const int error = WriteBytes(*file_, fresh->bytes, cluster, offset);
        error != 0) {
      return error;
    }
    table_[start / entries + b] = offset;
  }
  const uint64_t offset = (start + blocks) << header_.cluster_bits;
  int error = 0;
  std::array<Be64, 512> piece;
  for (size_t at = 0; error == 0 && at < table_.size();) {
    const size_t n = std::min(piece.size(), table_.size() - at);
    std::copy_n(table_.begin() + static_cast<ptrdiff_t>(at), n, piece.begin());
    error = WriteBytes(*file_, piece.data(), n * 8, offset + at * 8);
    at += n;
  }
  if (error == 0) error = file_->Sync();
  if (error != 0) return error;
  struct {
    Be64 offset;
    Be32 clusters;
  } place = {offset, static_cast<uint32_t>(clusters)};
  static_assert(sizeof(place) == 12);
  error = WriteBytes(*file_, &place, sizeof(place), kRefcountTableOffsetAt);
  if (error == 0) error = file_->Sync();
  header_uncertain_ = error != 0;
  return error;
}

bool Refcounts::TakeRetired(uint64_t* first, uint64_t* count) {
  *first = retired_first_;
  *count = retired_count_;
  retired_count_ = 0;
  return *count > 0;
}

int Refcounts::Get(uint64_t cluster, uint64_t* count) {
  Block* block;
  if (const int error = Load(cluster / block_entries(), &block); error != 0) {
    return error;
  }
  *count = block == nullptr ? 0 : Read(*block, cluster % block_entries());
  return 0;
}

int Refcounts::Change(uint64_t first, uint64_t count, bool increase) {
  if (header_uncertain_) return -EIO;
  while (count > 0) {
    const uint64_t index = first / block_entries();
    const uint64_t entry = first % block_entries();
    const uint64_t n = std::min(count, block_entries() - entry);
    Block* block;
    if (const int error =
            increase ? LoadOrCreate(index, &block) : Load(index, &block);
        error != 0) {
      return error;
    }
    if (block == nullptr) return -EUCLEAN;
    for (uint64_t i = 0; i < n; ++i) {
      const uint64_t old = Read(*block, entry + i);
      if (old == (increase ? max_count() : 0)) {
        // Undo what this block has seen of the run.
        for (uint64_t j = 0; j < i; ++j) {
          Write(block, entry + j,
                Read(*block, entry + j) + (increase ? ~uint64_t{0} : 1));
        }
        return -EUCLEAN;
      }
      Write(block, entry + i, increase ? old + 1 : old - 1);
      if (!increase && old == 1) HintFree(first + i);
    }
    if (const int error = Store(*block, entry, n); error != 0) {
      block->table_index = kNone;  // what the file holds is not known
      return error;
    }
    first += n;
    count -= n;
  }
  return 0;
}

int Refcounts::Increase(uint64_t first, uint64_t count) {
  return Change(first, count, /*increase=*/true);
}

int Refcounts::Decrease(uint64_t first, uint64_t count) {
  return Change(first, count, /*increase=*/false);
}

int Refcounts::Set(uint64_t cluster, uint64_t value,
                   const std::function<bool(uint64_t)>& is_used) {
  if (value > max_count()) return -EUCLEAN;
  is_used_ = is_used;
  Block* block;
  int error = LoadOrCreate(cluster / block_entries(), &block);
  is_used_ = nullptr;
  if (error != 0) return error;
  Write(block, cluster % block_entries(), value);
  error = Store(*block, cluster % block_entries(), 1);
  if (error != 0) block->table_index = kNone;
  return error;
}

// The first run of free clusters in [from, limit).
int Refcounts::FindRun(uint64_t from, uint64_t limit, uint64_t wanted,
                       FreeRun* run) {
  run->count = 0;
  uint64_t cluster = from;
  while (cluster < limit && run->count < wanted) {
    Block* block;
    const uint64_t index = cluster / block_entries();
    if (const int error = Load(index, &block); error != 0) return error;
    const uint64_t end = std::min(limit, (index + 1) * block_entries());
    for (; cluster < end && run->count < wanted; ++cluster) {
      const bool is_free =
          block == nullptr || Read(*block, cluster % block_entries()) == 0;
      if (is_free) {
        if (run->count == 0) run->first = cluster;
        ++run->count;
      } else if (run->count > 0) {
        return 0;
      }
    }
    // A region without a block will have one, in its first free cluster: end
    // the run here, that it may be found anew.
    if (block == nullptr && run->count > 0) return 0;
  }
  return 0;
}

// Inside the file there may be old data.
int Refcounts::MakeZero(FreeRun* run) {
  const uint64_t offset = run->first << header_.cluster_bits;
  const uint64_t end = (run->first + run->count) << header_.cluster_bits;
  run->reads_zero = file_->is_sparse();
  if (run->reads_zero && offset < file_bytes_) {
    const int error =
        file_->PunchHole(offset, std::min(end, file_bytes_) - offset);
    run->reads_zero = error == 0;
  }
  return ExtendTo(run->first + run->count);
}

// A file that grows has room without end; a device has what it has.
uint64_t Refcounts::SearchLimit(uint64_t wanted) const {
  return file_->is_sparse()
             ? std::max(hint_, file_clusters_) + wanted + 2 * block_entries()
             : file_bytes_ >> header_.cluster_bits;
}

int Refcounts::AllocateRun(uint64_t count, uint64_t* first) {
  uint64_t from = hint_;
  for (;;) {
    FreeRun run;
    if (const int error = FindRun(from, SearchLimit(count), count, &run);
        error != 0) {
      return error;
    }
    if (run.count == 0) return -ENOSPC;
    // A region that has no block yet gets one, in its first free cluster: look
    // again.
    const uint64_t last = (run.first + run.count - 1) / block_entries();
    bool made_block = false;
    for (uint64_t i = run.first / block_entries(); i <= last; ++i) {
      Block* block;
      if (const int error = Load(i, &block); error != 0) return error;
      if (block != nullptr) continue;
      if (const int error = LoadOrCreate(i, &block); error != 0) return error;
      made_block = true;
    }
    if (made_block) continue;
    if (run.count < count) {
      from = run.first + run.count;
      continue;
    }
    if (const int error = ExtendTo(run.first + count); error != 0) return error;
    *first = run.first;
    return Increase(run.first, count);
  }
}

int Refcounts::Reserve(uint64_t wanted, FreeRun* runs, size_t capacity,
                       size_t* used) {
  *used = 0;
  int error = 0;
  while (wanted > 0 && *used < capacity) {
    FreeRun run;
    error = FindRun(hint_, SearchLimit(wanted), wanted, &run);
    if (error != 0) break;
    if (run.count == 0) {
      error = -ENOSPC;
      break;
    }
    Block* block;
    error = Load(run.first / block_entries(), &block);
    if (error != 0) break;
    if (block == nullptr) {
      // Its first cluster becomes the block that counts it.
      error = LoadOrCreate(run.first / block_entries(), &block);
      if (error != 0) break;
      continue;
    }
    run.count =
        std::min(run.count, block_entries() - run.first % block_entries());
    error = MakeZero(&run);
    if (error == 0) error = Increase(run.first, run.count);
    if (error != 0) break;
    hint_ = run.first + run.count;
    wanted -= run.count;
    runs[(*used)++] = run;
  }
  if (*used == 0) return error;
  error = file_->Sync();
  // Nothing may refer to clusters that are perhaps not counted: they leak.
  if (error != 0) *used = 0;
  return error;
}

int Refcounts::TrimEnd() {
  if (!file_->is_sparse() || table_uncertain_ || header_uncertain_) return 0;
  uint64_t clusters = file_clusters_;
  while (clusters > opened_clusters_) {
    uint64_t count;
    if (const int error = Get(clusters - 1, &count); error != 0) return error;
    if (count > 0) break;
    --clusters;
  }
  if (clusters == file_clusters_) return 0;
  const uint64_t bytes = clusters << header_.cluster_bits;
  if (const int error = file_->Truncate(bytes); error != 0) return error;
  file_bytes_ = bytes;
  file_clusters_ = clusters;
  return 0;
}

}  // namespace bulkhead::block::qcow2
