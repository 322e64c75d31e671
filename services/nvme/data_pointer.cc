#include "services/nvme/data_pointer.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "services/runtime/endian.h"

namespace bulkhead::nvme {
namespace {

// Entries of a list that are copied out at one time.
constexpr uint64_t kEntriesAtOnce = 64;
// Pages of a list that are translated together. Each may lie in a mapping of
// its own: AppendStraddling has room for twice as many pieces.
constexpr uint64_t kRunPages = 32;

class Mapper {
 public:
  Mapper(uint64_t length_bytes, DmaDirection direction, const Dma& dma,
         Segments* segments)
      : left_(length_bytes),
        direction_(direction),
        dma_(dma),
        segments_(*segments) {}

  Outcome MapPrps(const Command& command, unsigned page_bits);
  Outcome MapSgl(const Command& command);

 private:
  // Appends a piece of the data. False: the outcome is in failure_.
  bool Append(uint64_t address, uint64_t size_bytes, uint16_t location);
  bool AppendStraddling(uint64_t address, uint64_t size_bytes,
                        uint16_t location);
  bool Add(const iovec& piece, uint16_t location);
  Outcome WalkList(uint64_t list, uint64_t page_bytes);
  // One segment's descriptors. *next becomes the descriptor of the segment that
  // follows; its length 0: there is none.
  Outcome WalkSegment(const SglDescriptor& segment, SglDescriptor* next);
  Outcome TakeDescriptor(const SglDescriptor& descriptor, bool is_last_entry,
                         bool in_last_segment, SglDescriptor* next);

  uint64_t left_;
  const DmaDirection direction_;
  const Dma& dma_;
  Segments& segments_;
  unsigned descriptors_ = 0;
  Outcome failure_;
};

bool Mapper::Append(uint64_t address, uint64_t size_bytes, uint16_t location) {
  if (void* host = dma_.InOneMapping(address, size_bytes, direction_)) {
    if (!Add({host, size_bytes}, location)) return false;
  } else if (!AppendStraddling(address, size_bytes, location)) {
    return false;
  }
  left_ -= size_bytes;
  return true;
}

// In several mappings, or not in memory at all.
bool Mapper::AppendStraddling(uint64_t address, uint64_t size_bytes,
                              uint16_t location) {
  std::array<iovec, 2 * kRunPages> pieces;
  size_t count = 0;
  if (!dma_.Translate(address, size_bytes, direction_, pieces.data(),
                      pieces.size(), &count)) {
    failure_ = {Status::kDataTransferError, location};
    return false;
  }
  return std::all_of(
      pieces.begin(), pieces.begin() + count,
      [this, location](const iovec& piece) { return Add(piece, location); });
}

bool Mapper::Add(const iovec& piece, uint16_t location) {
  if (segments_.count > 0) {
    iovec& last = segments_.first[segments_.count - 1];
    if (static_cast<char*>(last.iov_base) + last.iov_len == piece.iov_base) {
      last.iov_len += piece.iov_len;
      return true;
    }
  }
  if (segments_.count == segments_.capacity) {
    segments_.too_few = true;
    failure_ = {Status::kInvalidSglCount, location};
    return false;
  }
  segments_.first[segments_.count++] = piece;
  return true;
}

// §4.3: the first entry may start inside a page; the second is the next page,
// or a list of all the others.
Outcome Mapper::MapPrps(const Command& command, unsigned page_bits) {
  const uint64_t page_bytes = uint64_t{1} << page_bits;
  const uint64_t prp1 = command.prp1;
  const uint64_t prp2 = command.prp2;
  if (left_ == 0) return {};
  if (prp1 % 4 != 0) return {Status::kPrpOffsetInvalid, kAtPrp1};
  const uint64_t first = std::min(left_, page_bytes - prp1 % page_bytes);
  if (!Append(prp1, first, kAtPrp1)) return failure_;
  if (left_ == 0) return {};
  if (left_ <= page_bytes) {
    if (prp2 % page_bytes != 0) return {Status::kPrpOffsetInvalid, kAtPrp2};
    return Append(prp2, left_, kAtPrp2) ? Outcome{} : failure_;
  }
  if (prp2 % 8 != 0) return {Status::kPrpOffsetInvalid, kAtPrp2};
  return WalkList(prp2, page_bytes);
}

// A list ends at its page's end; if data remain, its last entry points to the
// next one. Each but the first holds at least 511 data entries, so even a list
// that points to itself ends with the data.
// Pages that follow each other are translated together.
Outcome Mapper::WalkList(uint64_t list, uint64_t page_bytes) {
  const uint64_t within_page = page_bytes - 1;  // a mask: no division an entry
  uint64_t run = 0;
  uint64_t run_bytes = 0;
  while (left_ > run_bytes) {
    const uint64_t room = (page_bytes - list % page_bytes) / 8;
    const uint64_t needed = (left_ - run_bytes + page_bytes - 1) / page_bytes;
    const bool chained = needed > room;
    uint64_t entries = chained ? room : needed;
    std::array<uint8_t, kEntriesAtOnce * sizeof(Le64)> copied;
    uint64_t next_list = 0;
    while (entries > 0) {
      const uint64_t batch = std::min(entries, kEntriesAtOnce);
      if (!dma_.Read(list, copied.data(), batch * sizeof(Le64))) {
        return {Status::kDataTransferError, kAtPrp2};
      }
      list += batch * sizeof(Le64);
      entries -= batch;
      for (uint64_t i = 0; i < batch; ++i) {
        const uint64_t entry = LoadLe64(&copied[i * sizeof(Le64)]);
        if ((entry & within_page) != 0) {
          return {Status::kPrpOffsetInvalid, kAtPrp2};
        }
        if (chained && entries == 0 && i + 1 == batch) {
          next_list = entry;
          break;
        }
        if (entry != run + run_bytes || run_bytes >= kRunPages * page_bytes) {
          if (run_bytes > 0 && !Append(run, run_bytes, kAtPrp2)) {
            return failure_;
          }
          run = entry;
          run_bytes = 0;
        }
        run_bytes += std::min(left_ - run_bytes, page_bytes);
      }
    }
    list = next_list;
  }
  return Append(run, run_bytes, kAtPrp2) ? Outcome{} : failure_;
}

Outcome Mapper::TakeDescriptor(const SglDescriptor& descriptor,
                               bool is_last_entry, bool in_last_segment,
                               SglDescriptor* next) {
  if (++descriptors_ > kMaxSglDescriptors) {
    return {Status::kInvalidSglCount, kAtPrp1};
  }
  switch (descriptor.type) {
    case kSglDataBlock: {
      // What the command does not need is left alone (SGLS bit 18).
      const uint64_t size = std::min<uint64_t>(descriptor.length, left_);
      if (size > 0 && !Append(descriptor.address, size, kAtPrp1)) {
        return failure_;
      }
      return {};
    }
    case kSglSegment:
    case kSglLastSegment:
      if (!is_last_entry || in_last_segment) {
        return {Status::kInvalidSglCount, kAtPrp1};
      }
      if (descriptor.length == 0 ||
          descriptor.length % sizeof(SglDescriptor) != 0) {
        return {Status::kInvalidSglSegment, kAtPrp1};
      }
      *next = descriptor;
      return {};
    default:
      return {Status::kSglTypeInvalid, kAtPrp1};
  }
}

Outcome Mapper::WalkSegment(const SglDescriptor& segment, SglDescriptor* next) {
  const bool last = segment.type == kSglLastSegment;
  uint64_t at = segment.address;
  uint64_t entries = segment.length / sizeof(SglDescriptor);
  std::array<SglDescriptor, kEntriesAtOnce> copied;
  while (entries > 0 && left_ > 0) {
    const uint64_t batch = std::min(entries, kEntriesAtOnce);
    if (!dma_.Read(at, copied.data(), batch * sizeof(SglDescriptor))) {
      return {Status::kDataTransferError, kAtPrp1};
    }
    at += batch * sizeof(SglDescriptor);
    entries -= batch;
    for (uint64_t i = 0; i < batch && left_ > 0; ++i) {
      const bool is_last_entry = entries == 0 && i + 1 == batch;
      const Outcome outcome =
          TakeDescriptor(copied[i], is_last_entry, last, next);
      if (!outcome.ok()) return outcome;
    }
  }
  return {};
}

// §4.4: one data block, or segments of descriptors of which only the last entry
// may lead to another.
Outcome Mapper::MapSgl(const Command& command) {
  if (left_ == 0) return {};
  SglDescriptor next = {};
  SglDescriptor first;
  static_assert(offsetof(Command, prp2) == offsetof(Command, prp1) + 8);
  std::memcpy(&first, reinterpret_cast<const char*>(&command) + kAtPrp1,
              sizeof first);
  Outcome outcome = TakeDescriptor(first, true, false, &next);
  while (outcome.ok() && next.length != 0 && left_ > 0) {
    const SglDescriptor segment = next;
    next = {};
    outcome = WalkSegment(segment, &next);
  }
  if (outcome.ok() && left_ > 0) {
    return {Status::kDataSglLengthInvalid, kAtPrp1};
  }
  return outcome;
}

template <typename Move>
size_t Walk(const Segments& segments, uint64_t skip, size_t size_bytes,
            Move move) {
  size_t done = 0;
  for (size_t i = 0; i < segments.count && done < size_bytes; ++i) {
    const iovec& segment = segments.first[i];
    if (skip >= segment.iov_len) {
      skip -= segment.iov_len;
      continue;
    }
    const size_t piece =
        std::min<size_t>(segment.iov_len - skip, size_bytes - done);
    move(static_cast<char*>(segment.iov_base) + skip, done, piece);
    skip = 0;
    done += piece;
  }
  return done;
}

}  // namespace

Outcome MapData(const Command& command, uint64_t length_bytes,
                unsigned page_bits, bool sgl_allowed, DmaDirection direction,
                const Dma& dma, Segments* segments) {
  Mapper mapper(length_bytes, direction, dma, segments);
  switch (command.psdt()) {
    case 0:
      return mapper.MapPrps(command, page_bits);
    case 1:
    case 2:  // they differ in the metadata pointer, which is not used
      if (sgl_allowed) return mapper.MapSgl(command);
      break;
  }
  return {Status::kInvalidField, kAtFlags};
}

size_t CopyToSegments(const Segments& segments, uint64_t skip, const void* from,
                      size_t size_bytes) {
  return Walk(segments, skip, size_bytes,
              [from](char* at, size_t done, size_t piece) {
                std::memcpy(at, static_cast<const char*>(from) + done, piece);
              });
}

size_t CopyFromSegments(const Segments& segments, uint64_t skip, void* to,
                        size_t size_bytes) {
  return Walk(segments, skip, size_bytes,
              [to](char* at, size_t done, size_t piece) {
                std::memcpy(static_cast<char*>(to) + done, at, piece);
              });
}

bool SegmentsEqual(const Segments& segments, uint64_t skip, const void* bytes,
                   size_t size_bytes) {
  bool equal = true;
  const size_t compared = Walk(
      segments, skip, size_bytes,
      [bytes, &equal](const char* at, size_t done, size_t piece) {
        equal = equal && std::memcmp(at, static_cast<const char*>(bytes) + done,
                                     piece) == 0;
      });
  return equal && compared == size_bytes;
}

}  // namespace bulkhead::nvme
