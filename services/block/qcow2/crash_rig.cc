#include "services/block/qcow2/crash_rig.h"

#include <string.h>

#include <algorithm>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "services/block/qcow2/chain.h"
#include "services/block/qcow2/check.h"
#include "services/block/qcow2/qemu_tools.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr uint64_t kDiskBytes = 2 << 20;
constexpr uint64_t kSector = 512;
constexpr uint64_t kGrowthBytes = 512 << 10;
constexpr size_t kDepth = 6;
constexpr size_t kNever = ~size_t{0};

uint64_t HashOf(const char* sector) {
  uint64_t hash = 0x243f6a8885a308d3;
  for (size_t i = 0; i < kSector; i += 8) {
    uint64_t word;
    memcpy(&word, sector + i, 8);
    hash = (hash ^ word) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 31;
  }
  return hash;
}

std::string ReadWhole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(file)),
                     std::istreambuf_iterator<char>());
}

std::shared_ptr<MemoryDisk> DiskOf(std::string bytes) {
  auto disk = std::make_shared<MemoryDisk>();
  disk->bytes = std::move(bytes);
  return disk;
}

void Overwrite(std::string* image, uint64_t offset, const char* data,
               uint64_t length) {
  if (image->size() < offset + length) image->resize(offset + length);
  image->replace(offset, length, data, length);
}

}  // namespace

const std::vector<CrashScenario> kCrashScenarios = {
    {"plain", "compat=1.1"},
    {"plain_in_order", "compat=1.1", false, false, false, 0},
    {"overlay", "compat=1.1", /*overlay=*/true},
    {"overlay_4k", "cluster_size=4k", /*overlay=*/true},
    {"snapshot", "cluster_size=16k", false, /*snapshot=*/true},
    {"snapshot_512", "cluster_size=512", false, /*snapshot=*/true},
    {"compressed", "cluster_size=16k", false, false, /*compressed=*/true},
    {"clusters_512", "cluster_size=512,refcount_bits=64"},
    {"refcount_bits_1", "cluster_size=4k,refcount_bits=1"},
    {"version_2", "compat=0.10,cluster_size=4k"},
    {"extended", "extended_l2=on,cluster_size=16k"},
    {"extended_overlay", "extended_l2=on,cluster_size=16k", /*overlay=*/true},
    {"extended_overlay_in_order", "extended_l2=on,cluster_size=32k",
     /*overlay=*/true, false, false, 0},
    {"extended_snapshot", "extended_l2=on,cluster_size=16k", false,
     /*snapshot=*/true},
    {"extended_compressed", "extended_l2=on,cluster_size=16k", false, false,
     /*compressed=*/true},
    {"version_2_overlay", "compat=0.10,cluster_size=4k", /*overlay=*/true},
    {"preallocated", "preallocation=metadata,cluster_size=4k"},
    // 64 tables of 32 KiB fill one cluster of the L1 table: it has to move.
    {.name = "growing_512",
     .create_options = "cluster_size=512",
     .growing = true},
    {.name = "growing_overlay",
     .create_options = "cluster_size=4k",
     .overlay = true,
     .growing = true},
    {.name = "growing_snapshot",
     .create_options = "cluster_size=512",
     .snapshot = true,
     .growing = true},
};

// A file whose changes are written down in the order in which it has them.
class CrashRig::RecordingFile final : public MemoryFile {
 public:
  RecordingFile(std::shared_ptr<MemoryDisk> disk, CrashRig* rig)
      : MemoryFile(std::move(disk)), rig_(*rig) {}

  ssize_t Write(const iovec* segments, size_t count, uint64_t offset,
                Wait wait) override {
    std::lock_guard<std::mutex> lock(rig_.mutex_);
    const ssize_t moved = MemoryFile::Write(segments, count, offset, wait);
    if (moved <= 0) return moved;
    std::string data;
    for (size_t i = 0; i < count; ++i) {
      data.append(static_cast<const char*>(segments[i].iov_base),
                  segments[i].iov_len);
    }
    rig_.record_.push_back(
        {RecordedOp::Kind::kWrite, offset, data.size(), std::move(data)});
    return moved;
  }
  int Sync() override {
    if (rig_.deaf_) return 0;
    size_t began;
    {
      std::lock_guard<std::mutex> lock(rig_.mutex_);
      began = rig_.record_.size();
      rig_.record_.push_back({RecordedOp::Kind::kSyncBegins});
    }
    std::lock_guard<std::mutex> lock(rig_.mutex_);
    rig_.record_.push_back({RecordedOp::Kind::kSyncEnds, 0, 0, "", began});
    return 0;
  }
  int PunchHole(uint64_t offset, uint64_t length) override {
    std::lock_guard<std::mutex> lock(rig_.mutex_);
    rig_.record_.push_back({RecordedOp::Kind::kZero, offset, length});
    return MemoryFile::PunchHole(offset, length);
  }
  int Truncate(uint64_t size) override {
    std::lock_guard<std::mutex> lock(rig_.mutex_);
    rig_.record_.push_back({RecordedOp::Kind::kTruncate, size});
    return MemoryFile::Truncate(size);
  }

 private:
  CrashRig& rig_;
};

struct CrashRig::Flying {
  std::unique_ptr<RigRequest> request;
  size_t submitted;
  uint64_t submitted_step;
};

CrashRig::CrashRig(const CrashScenario& scenario, uint64_t seed, int requests,
                   bool deaf)
    : deaf_(deaf), random_(seed) {
  MakeImages(scenario);
  if (!failure_.empty()) return;
  RunWorkload(scenario, requests);
}

void CrashRig::MakeImages(const CrashScenario& scenario) {
  ImageDirectory images;
  const std::string path = images.Path("disk.qcow2");
  const std::string base = images.Path("base.qcow2");
  const std::string options = scenario.create_options;
  const std::string size = std::to_string(kDiskBytes);
  const std::vector<std::string> fill = {"write -P 1 0 1M",
                                         "write -P 2 1500k 99k"};
  if (scenario.overlay || scenario.compressed) {
    QemuImg("create -q -f qcow2 -o cluster_size=64k " + base + " 1700k");
    QemuIo(base, fill);
  }
  if (scenario.overlay) {
    QemuImg("create -q -f qcow2 -F qcow2 -b " + base + " -o " + options + " " +
            path + " " + size);
    parent_ = DiskOf(ReadWhole(base));
  } else if (scenario.compressed) {
    QemuImg("convert -q -c -f qcow2 -O qcow2 -o " + options + " " + base + " " +
            path);
  } else {
    QemuImg("create -q -f qcow2 -o " + options + " " + path + " " + size);
  }
  if (scenario.snapshot) {
    QemuIo(path, fill);
    QemuImg("snapshot -c before " + path);
  }
  first_image_ = ReadWhole(path);
  disk_ = DiskOf(first_image_);
  disk_->always_waits = scenario.workers > 0;
  const std::string content = ContentByQemu(path);
  disk_bytes_ = content.size();
  for (uint64_t at = 0; at < disk_bytes_; at += kSector) {
    first_hashes_.push_back(HashOf(&content[at]));
  }
  changes_.resize(first_hashes_.size());
}

std::unique_ptr<Backend> CrashRig::OpenEngine(std::shared_ptr<MemoryDisk> disk,
                                              bool record, unsigned workers,
                                              std::string* error) {
  std::vector<ChainFile> chain;
  std::unique_ptr<FileIo> file;
  if (record) {
    file = std::make_unique<RecordingFile>(std::move(disk), this);
  } else {
    file = std::make_unique<MemoryFile>(std::move(disk));
  }
  chain.push_back({std::move(file), true, "disk.qcow2"});
  if (parent_ != nullptr) {
    chain.push_back(
        {std::make_unique<MemoryFile>(parent_), true, "base.qcow2"});
  }
  auto pool = WorkerPool::Create(workers, AtEnd::kJoin);
  if (!pool.ok()) {
    *error = std::string(pool.status().message());
    return nullptr;
  }
  auto engine =
      OpenChain(std::move(chain), *std::move(pool),
                {.engine = {.read_only = !record}, .l2_cache_bytes = 64 << 10});
  if (!engine.ok()) {
    *error = std::string(engine.status().message());
    return nullptr;
  }
  return *std::move(engine);
}

size_t CrashRig::Now() {
  std::lock_guard<std::mutex> lock(mutex_);
  return record_.size();
}

void CrashRig::RunWorkload(const CrashScenario& scenario, int requests) {
  auto engine = OpenEngine(disk_, /*record=*/true, scenario.workers, &failure_);
  if (engine == nullptr) return;
  Rig rig(std::move(engine));
  std::vector<std::unique_ptr<Flying>> flying;
  for (int i = 0; i < requests; ++i) {
    while (flying.size() >= kDepth) {
      rig.PollOnce();
      Collect(&flying);
    }
    if (scenario.growing && i % (requests / 3) == requests / 6 &&
        grown_.size() < 2) {
      GrowDisk(rig, &flying);
    }
    SubmitOne(rig, &flying);
    Collect(&flying);
  }
  while (!flying.empty()) {
    rig.PollOnce();
    Collect(&flying);
  }
  rig.Close();
}

void CrashRig::GrowDisk(Rig& rig,
                        std::vector<std::unique_ptr<Flying>>* flying) {
  struct Waited : Growth {
    bool ended = false;
  } growth;
  growth.size_bytes = disk_bytes_ + kGrowthBytes;
  growth.done = [](Growth* g) { static_cast<Waited*>(g)->ended = true; };
  rig.backend().Grow(&growth);
  // What comes now waits for it.
  SubmitOne(rig, flying);
  while (!growth.ended) {
    rig.PollOnce();
    Collect(flying);
  }
  if (!growth.status.ok()) failure_ = growth.status.ToString();
  disk_bytes_ = growth.size_bytes;
  grown_.push_back({Now(), disk_bytes_});
  const std::string zeroes(kSector, 0);
  first_hashes_.resize(disk_bytes_ / kSector, HashOf(zeroes.data()));
  changes_.resize(first_hashes_.size());
}

void CrashRig::SubmitOne(Rig& rig,
                         std::vector<std::unique_ptr<Flying>>* flying) {
  const uint64_t sectors = disk_bytes_ / kSector;
  const uint64_t most = random_() % 8 == 0 ? 300 : 20;
  const uint64_t count = 1 + random_() % most;
  const uint64_t first = random_() % (sectors - count + 1);
  for (const auto& other : *flying) {
    if (other->request->offset_bytes < (first + count) * kSector &&
        first * kSector <
            other->request->offset_bytes + other->request->length_bytes) {
      return;
    }
  }
  const unsigned kind = random_() % 16;
  const uint64_t offset = first * kSector;
  const uint64_t length = count * kSector;
  auto one = std::make_unique<Flying>();
  if (kind < 9) {
    one->request = Rig::Make(Operation::kWrite, offset, length,
                             Pattern(random_(), offset, length));
    one->request->force_unit_access = random_() % 10 == 0;
  } else if (kind < 11) {
    one->request = Rig::Make(Operation::kDiscard, offset, length);
  } else if (kind < 14) {
    one->request = Rig::Make(Operation::kWriteZeroes, offset, length);
    one->request->may_unmap = random_() % 2 == 0;
    one->request->force_unit_access = random_() % 10 == 0;
  } else {
    one->request = Rig::Make(Operation::kFlush, 0, 0);
  }
  one->submitted = Now();
  one->submitted_step = ++step_;
  const RigRequest& request = *one->request;
  if (request.operation != Operation::kFlush) {
    const std::string zeroes(kSector, 0);
    for (uint64_t i = 0; i < count; ++i) {
      const bool is_write = request.operation == Operation::kWrite;
      changes_[first + i].push_back(
          {one->submitted, kNever, kNever,
           HashOf(is_write ? &request.data[i * kSector] : zeroes.data()),
           request.force_unit_access,
           request.operation == Operation::kDiscard});
    }
  }
  flying->push_back(std::move(one));
  rig.Submit(flying->back()->request.get());
}

void CrashRig::Collect(std::vector<std::unique_ptr<Flying>>* flying) {
  for (size_t i = 0; i < flying->size();) {
    const Flying& one = *(*flying)[i];
    const RigRequest& request = *one.request;
    if (!request.ended) {
      ++i;
      continue;
    }
    if (request.status != IoStatus::kOk) failure_ = "a request failed";
    if (request.operation == Operation::kFlush) {
      flushes_.push_back({one.submitted_step, Now()});
    } else {
      const size_t now = Now();
      ++step_;
      for (uint64_t at = 0; at < request.length_bytes; at += kSector) {
        Change& change = changes_[(request.offset_bytes + at) / kSector].back();
        change.completed = now;
        change.completed_step = step_;
      }
    }
    flying->erase(flying->begin() + static_cast<ptrdiff_t>(i));
  }
}

std::string CrashRig::ImageAt(size_t position, CutMode mode, uint64_t seed) {
  size_t durable = 0;
  for (size_t i = 0; i < position; ++i) {
    if (record_[i].kind == RecordedOp::Kind::kSyncEnds) {
      durable = std::max(durable, record_[i].sync_began);
    }
  }
  std::mt19937_64 random(seed);
  std::string image = first_image_;
  for (size_t i = 0; i < position; ++i) {
    const RecordedOp& op = record_[i];
    const bool is_durable = i < durable;
    if (!is_durable && mode == CutMode::kDurable) break;
    if (!is_durable && mode != CutMode::kPrefix &&
        op.kind == RecordedOp::Kind::kTruncate && random() % 2 == 0) {
      continue;
    }
    if (!is_durable && mode == CutMode::kSomeOps && random() % 2 == 0) continue;
    const bool by_sector = !is_durable && mode == CutMode::kSomeSectors;
    switch (op.kind) {
      case RecordedOp::Kind::kWrite:
        for (uint64_t at = 0; at < op.length;) {
          const uint64_t n =
              by_sector ? std::min(op.length - at,
                                   kSector - (op.offset + at) % kSector)
                        : op.length;
          if (!by_sector || random() % 2 == 0) {
            Overwrite(&image, op.offset + at, &op.data[at], n);
          }
          at += n;
        }
        break;
      case RecordedOp::Kind::kZero:
        if (op.offset < image.size()) {
          const uint64_t n =
              std::min<uint64_t>(op.length, image.size() - op.offset);
          image.replace(op.offset, n, n, '\0');
        }
        break;
      case RecordedOp::Kind::kTruncate:
        image.resize(op.offset);
        break;
      default:
        break;
    }
  }
  return image;
}

std::string CrashRig::Judge(size_t position, CutMode mode, uint64_t seed) {
  auto disk = DiskOf(ImageAt(position, mode, seed));
  MemoryFile file(disk);
  const auto report = Check(file, kSetUpBudget);
  if (!report.ok()) return std::string(report.status().message());
  if (report->corruptions > 0) return report->first_problem;
  std::string error;
  auto engine = OpenEngine(disk, /*record=*/false, /*workers=*/0, &error);
  if (engine == nullptr) return error;
  Rig rig(std::move(engine));
  return CheckContent(rig, position);
}

std::string CrashRig::CheckContent(Rig& rig, size_t position) const {
  constexpr uint64_t kPiece = 256 << 10;
  uint64_t flushed_step = 0;
  for (const Flush& flush : flushes_) {
    if (flush.completed <= position) {
      flushed_step = std::max(flushed_step, flush.submitted_step);
    }
  }
  const uint64_t there =
      std::min(disk_bytes_, rig.backend().geometry().capacity_bytes);
  for (const Grown& grown : grown_) {
    if (grown.completed <= position && grown.size_bytes > there) {
      return "the disk is shorter than it was";
    }
  }
  for (uint64_t at = 0; at < there; at += kPiece) {
    const uint64_t n = std::min(kPiece, there - at);
    const std::string data = rig.ReadOk(at, n);
    if (data.size() != n) return absl::StrCat("unreadable at ", at);
    for (uint64_t i = 0; i < n; i += kSector) {
      const size_t sector = (at + i) / kSector;
      if (!Allowed(sector, HashOf(&data[i]), position, flushed_step)) {
        return absl::StrCat("sector ", sector,
                            " holds neither what was flushed nor what was "
                            "written since");
      }
    }
  }
  return "";
}

// Backwards from the newest change that was submitted before the cut: each may
// be what is there, until one that had to be durable.
bool CrashRig::Allowed(size_t sector, uint64_t hash, size_t position,
                       uint64_t flushed_step) const {
  const std::vector<Change>& changes = changes_[sector];
  for (size_t i = changes.size(); i-- > 0;) {
    const Change& change = changes[i];
    if (change.submitted > position) continue;
    if (change.hash == hash) return true;
    const bool had_to_last =
        change.completed_step < flushed_step ||
        (change.durable_when_done && change.completed <= position);
    if (had_to_last && !change.may_keep_old) return false;
  }
  return first_hashes_[sector] == hash;
}

}  // namespace bulkhead::block::qcow2
