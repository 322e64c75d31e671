#include "services/block/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <shared_mutex>
#include <utility>

namespace bulkhead::block {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kWordPages = 64;
// Beyond this the mapping's tables (a 500th of it) and the search for holes (a
// millisecond for 128 MiB of data) cost more than they are worth.
constexpr uint64_t kMostMappedBytes = uint64_t{64} << 30;
constexpr uint64_t kMostSearchedBytes = uint64_t{4} << 30;
constexpr int kMostExtents = 1 << 16;
// A longer write is better off with one system call than with a fault for each
// page that is stored to for the first time.
constexpr uint64_t kMostStoredBytes = 16 << 10;

struct Free {
  void operator()(void* memory) const { free(memory); }
};

// A bit for each page, shared between threads.
class PageSet {
 public:
  // Zero pages of the kernel's until they are written to.
  explicit PageSet(uint64_t pages)
      : words_(static_cast<uint64_t*>(
            calloc((pages + kWordPages - 1) / kWordPages, sizeof(uint64_t)))) {
    if (words_ == nullptr) abort();  // as new would
  }

  // [first, end), not empty.
  bool HasAll(uint64_t first, uint64_t end) const {
    for (uint64_t at = first; at < end;) {
      const uint64_t mask = Mask(at, end);
      if ((Load(at) & mask) != mask) return false;
      at = NextWord(at);
    }
    return true;
  }
  void Add(uint64_t first, uint64_t end) {
    for (uint64_t at = first; at < end; at = NextWord(at)) {
      const uint64_t mask = Mask(at, end);
      if ((Load(at) & mask) == mask) continue;
      __atomic_fetch_or(&words_[at / kWordPages], mask, __ATOMIC_RELAXED);
    }
  }
  void Remove(uint64_t first, uint64_t end) {
    for (uint64_t at = first; at < end; at = NextWord(at)) {
      __atomic_fetch_and(&words_[at / kWordPages], ~Mask(at, end),
                         __ATOMIC_RELAXED);
    }
  }

 private:
  static uint64_t NextWord(uint64_t page) {
    return (page / kWordPages + 1) * kWordPages;
  }
  // The bits of the pages from `page` to `end`, in the former's word.
  static uint64_t Mask(uint64_t page, uint64_t end) {
    const uint64_t first = page % kWordPages;
    const uint64_t count = std::min(end - page, kWordPages - first);
    const uint64_t ones =
        count == kWordPages ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
    return ones << first;
  }
  uint64_t Load(uint64_t page) const {
    return __atomic_load_n(&words_[page / kWordPages], __ATOMIC_RELAXED);
  }

  std::unique_ptr<uint64_t[], Free> words_;
};

constexpr uint64_t PagesOf(uint64_t bytes) {
  return (bytes + kPageBytes - 1) / kPageBytes;
}

class MappedFile final : public FileIo {
 public:
  MappedFile(std::unique_ptr<FileIo> file, uint8_t* base, uint64_t bytes,
             Stores stores)
      : file_(std::move(file)),
        base_(base),
        mapped_bytes_(bytes),
        stores_(stores),
        present_(PagesOf(bytes)),
        readable_bytes_(bytes) {}
  // After the lock-down the mapping lasts until the process ends.
  ~MappedFile() override { munmap(base_, mapped_bytes_); }

  void FindData(int fd);

  ssize_t Read(const iovec* segments, size_t count, uint64_t offset_bytes,
               Wait wait) override {
    const uint64_t bytes = TotalBytes(segments, count);
    if (CopyOut(segments, count, offset_bytes, bytes)) {
      return static_cast<ssize_t>(bytes);
    }
    return file_->Read(segments, count, offset_bytes, wait);
  }

  ssize_t Write(const iovec* segments, size_t count, uint64_t offset_bytes,
                Wait wait) override {
    if (stores_ == Stores::kMapped) {
      const uint64_t bytes = TotalBytes(segments, count);
      if (bytes <= kMostStoredBytes &&
          CopyIn(segments, count, offset_bytes, bytes)) {
        return static_cast<ssize_t>(bytes);
      }
    }
    const uint64_t holes_before = holes_made_.load();
    const ssize_t moved = file_->Write(segments, count, offset_bytes, wait);
    if (moved > 0) {
      Written(offset_bytes, static_cast<uint64_t>(moved), holes_before);
    }
    return moved;
  }

  int Sync() override { return file_->Sync(); }
  int PunchHole(uint64_t offset_bytes, uint64_t length_bytes) override {
    const MakingHole making(this, offset_bytes, length_bytes);
    return file_->PunchHole(offset_bytes, length_bytes);
  }
  int ZeroRange(uint64_t offset_bytes, uint64_t length_bytes) override {
    const MakingHole making(this, offset_bytes, length_bytes);
    return file_->ZeroRange(offset_bytes, length_bytes);
  }
  int Truncate(uint64_t size_bytes) override {
    if (size_bytes >= readable_bytes_.load()) {
      return file_->Truncate(size_bytes);
    }
    const MakingHole making(this, size_bytes, mapped_bytes_ - size_bytes);
    readable_bytes_.store(size_bytes);  // it may grow again: by system calls
    return file_->Truncate(size_bytes);
  }
  int64_t Size() override { return file_->Size(); }
  bool never_waits() const override { return file_->never_waits(); }
  bool is_sparse() const override { return file_->is_sparse(); }
  int ring_file(const iovec* segments, size_t count,
                uint64_t offset_bytes) const override {
    return file_->ring_file(segments, count, offset_bytes);
  }

 private:
  // Many at a time, and not while a hole is made, or waits to be: it is false
  // then, and a system call does it.
  class Copying {
   public:
    explicit Copying(MappedFile* file)
        : lock_(file->mutex_, std::defer_lock),
          may_(file->holes_wanted_.load(std::memory_order_relaxed) == 0 &&
               lock_.try_lock()) {}
    explicit operator bool() const { return may_; }

   private:
    std::shared_lock<std::shared_mutex> lock_;
    const bool may_;
  };

  // A page about to go is no longer known to be there, and until it has gone
  // nobody copies through the mapping, or says of a page that he has written
  // before that it is there.
  class MakingHole {
   public:
    MakingHole(MappedFile* file, uint64_t offset_bytes, uint64_t length_bytes)
        : wanted_(file->holes_wanted_), lock_(file->mutex_) {
      ++file->holes_made_;
      if (offset_bytes >= file->mapped_bytes_) return;
      const uint64_t end =
          offset_bytes +
          std::min(length_bytes, file->mapped_bytes_ - offset_bytes);
      file->present_.Remove(offset_bytes / kPageBytes, PagesOf(end));
    }

   private:
    struct Wanted {
      explicit Wanted(std::atomic<unsigned>& holes) : holes(holes) { ++holes; }
      ~Wanted() { --holes; }
      std::atomic<unsigned>& holes;
    };
    const Wanted wanted_;  // without it, copies could follow upon each other
    const std::lock_guard<std::shared_mutex> lock_;
  };

  // Whether all of it is known to be there. While copying.
  bool IsPresent(uint64_t offset_bytes, uint64_t bytes) const;
  bool CopyOut(const iovec* segments, size_t count, uint64_t offset_bytes,
               uint64_t bytes);
  bool CopyIn(const iovec* segments, size_t count, uint64_t offset_bytes,
              uint64_t bytes);
  void Written(uint64_t offset_bytes, uint64_t bytes, uint64_t holes_before);

  const std::unique_ptr<FileIo> file_;
  uint8_t* const base_;
  const uint64_t mapped_bytes_;
  const Stores stores_;
  PageSet present_;
  std::atomic<uint64_t> readable_bytes_;  // of the mapping; only ever less
  // Held while holes are made, and shared, if that needs no waiting, by who
  // copies.
  std::shared_mutex mutex_;
  std::atomic<unsigned> holes_wanted_{0};
  std::atomic<uint64_t> holes_made_{0};
};

// What is there at set-up. Where the search is given up, a page is known when
// it has been written.
void MappedFile::FindData(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0 ||
      static_cast<uint64_t>(status.st_blocks) * 512 > kMostSearchedBytes) {
    return;
  }
  off_t at = 0;
  for (int i = 0; i < kMostExtents; ++i) {
    const off_t data = lseek(fd, at, SEEK_DATA);
    if (data < 0 || static_cast<uint64_t>(data) >= mapped_bytes_) return;
    const off_t hole = lseek(fd, data, SEEK_HOLE);
    if (hole <= data) return;
    const uint64_t end = std::min(static_cast<uint64_t>(hole), mapped_bytes_);
    // Pages that are there as a whole; the last one ends with the file.
    const uint64_t first = PagesOf(static_cast<uint64_t>(data));
    const uint64_t last =
        end == mapped_bytes_ ? PagesOf(end) : end / kPageBytes;
    if (first < last) present_.Add(first, last);
    at = hole;
  }
}

bool MappedFile::IsPresent(uint64_t offset_bytes, uint64_t bytes) const {
  const uint64_t readable = readable_bytes_.load(std::memory_order_relaxed);
  return bytes > 0 && offset_bytes < readable &&
         bytes <= readable - offset_bytes &&
         present_.HasAll(offset_bytes / kPageBytes,
                         PagesOf(offset_bytes + bytes));
}

bool MappedFile::CopyOut(const iovec* segments, size_t count,
                         uint64_t offset_bytes, uint64_t bytes) {
  const Copying copying(this);
  if (!copying || !IsPresent(offset_bytes, bytes)) return false;
  const uint8_t* from = base_ + offset_bytes;
  for (size_t i = 0; i < count; ++i) {
    memcpy(segments[i].iov_base, from, segments[i].iov_len);
    from += segments[i].iov_len;
  }
  return true;
}

bool MappedFile::CopyIn(const iovec* segments, size_t count,
                        uint64_t offset_bytes, uint64_t bytes) {
  const Copying copying(this);
  if (!copying || !IsPresent(offset_bytes, bytes)) return false;
  uint8_t* to = base_ + offset_bytes;
  for (size_t i = 0; i < count; ++i) {
    memcpy(to, segments[i].iov_base, segments[i].iov_len);
    to += segments[i].iov_len;
  }
  return true;
}

void MappedFile::Written(uint64_t offset_bytes, uint64_t bytes,
                         uint64_t holes_before) {
  if (offset_bytes >= mapped_bytes_) return;
  const uint64_t end =
      PagesOf(offset_bytes + std::min(bytes, mapped_bytes_ - offset_bytes));
  const uint64_t first = offset_bytes / kPageBytes;
  if (present_.HasAll(first, end)) return;
  const Copying copying(this);
  if (copying && holes_made_.load() == holes_before) present_.Add(first, end);
}

}  // namespace

std::unique_ptr<FileIo> MakeMappedFile(std::unique_ptr<FileIo> file, int fd,
                                       uint64_t size_bytes, Stores stores) {
  const uint64_t bytes = std::min(size_bytes, kMostMappedBytes);
  if (bytes == 0) return file;
  const int access =
      stores == Stores::kMapped ? PROT_READ | PROT_WRITE : PROT_READ;
  void* base = mmap(nullptr, bytes, access, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) return file;
  auto mapped = std::make_unique<MappedFile>(
      std::move(file), static_cast<uint8_t*>(base), bytes, stores);
  mapped->FindData(fd);
  return mapped;
}

}  // namespace bulkhead::block
