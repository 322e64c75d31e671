#include "tools/image/commands.h"

#include <poll.h>
#include <string.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "services/block/qcow2/chain.h"
#include "services/block/qcow2/check.h"
#include "services/block/raw.h"
#include "tools/image/report.h"
#include "tools/image/stream.h"

namespace bulkhead::image_tool {
namespace {

using block::Backend;
using block::IoStatus;
using block::Operation;
using block::qcow2::ChainFile;
using block::qcow2::Extent;

constexpr int kInput = 0;
constexpr int kOutput = 1;
constexpr uint64_t kPiece = 1 << 20;
constexpr uint64_t kSector = 512;

// ---- A disk, one request at a time

std::vector<ChainFile> ChainOf(std::vector<NamedFile> files) {
  std::vector<ChainFile> chain;
  for (NamedFile& file : files) {
    chain.push_back({std::move(file.file), file.is_qcow2, file.name,
                     std::move(file.aes_key)});
  }
  return chain;
}

absl::StatusOr<std::unique_ptr<Backend>> OpenDisk(
    std::vector<NamedFile> files, std::unique_ptr<block::WorkerPool> pool,
    bool read_only) {
  if (files[0].is_qcow2) {
    return block::qcow2::OpenChain(ChainOf(std::move(files)), std::move(pool),
                                   {.engine = {.read_only = read_only}});
  }
  if (files.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(files[0].name, ": a raw image has no backing file"));
  }
  auto raw = block::RawBackend::Create(
      std::move(files[0].file), std::move(pool), {.read_only = read_only});
  if (!raw.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(files[0].name, ": ", raw.status().message()));
  }
  return raw;
}

const char* NameOf(IoStatus status) {
  switch (status) {
    case IoStatus::kOk:
      return "ok";
    case IoStatus::kInvalid:
      return "not on the disk, or not in sectors of 512 bytes";
    case IoStatus::kReadOnly:
      return "the disk is read-only";
    case IoStatus::kNoSpace:
      return "no space left on the host";
    case IoStatus::kCorrupt:
      return "the image is corrupt there";
    case IoStatus::kIoError:
      return "input/output error";
    case IoStatus::kUnavailable:
      return "the server is gone";
  }
  return "unknown";
}

void PollOnce(Backend& backend) {
  pollfd event = {backend.event_fd(), POLLIN, 0};
  const timespec second = {1, 0};
  if (backend.in_flight() > 0) ppoll(&event, 1, &second, nullptr);
  backend.Poll();
}

absl::Status Do(Backend& backend, Operation operation, uint64_t offset,
                uint64_t length, char* data = nullptr) {
  block::Request request;
  bool done = false;
  const iovec segment = {data, length};
  request.operation = operation;
  request.may_unmap = true;
  request.offset_bytes = offset;
  request.length_bytes = length;
  request.segments = &segment;
  request.segment_count = data != nullptr ? 1 : 0;
  request.owner = &done;
  request.done = [](block::Request* r) {
    *static_cast<bool*>(r->owner) = true;
  };
  backend.Submit(&request);
  while (!done) PollOnce(backend);
  if (request.status == IoStatus::kOk) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("at ", offset, ": ", NameOf(request.status)));
}

absl::Status Print(const std::string& text) {
  const int error = WriteAll(kOutput, text);
  if (error == 0) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("output: ", strerror(-error)));
}

// [offset, offset + length) inside the disk; length 0 is "to the end".
absl::Status Clip(const Request& request, uint64_t capacity, uint64_t* end) {
  if (request.offset > capacity || request.length > capacity - request.offset) {
    return absl::OutOfRangeError(absl::StrCat("the disk ends at ", capacity));
  }
  *end = request.length == 0 ? capacity : request.offset + request.length;
  return absl::OkStatus();
}

// ---- Verbs

void ReportHeader(const block::qcow2::Header& header, Report* report) {
  static constexpr const char* kEncryptions[] = {"none", "legacy AES", "LUKS"};
  report->Number("version", header.version);
  report->Number("disk_bytes", header.size_bytes);
  report->Number("cluster_bytes", header.cluster_bytes());
  report->Number("subcluster_bytes", header.subcluster_bytes());
  report->Number("refcount_bits", header.version == 1
                                      ? 0
                                      : uint64_t{1} << header.refcount_order);
  report->Text("compression", header.compression == 0   ? "zlib"
                              : header.compression == 1 ? "zstd"
                                                        : "unknown");
  report->Text("encryption", header.crypt_method <= 2
                                 ? kEncryptions[header.crypt_method]
                                 : "unknown");
  report->List("features", header.features);
  report->Flag("extended_l2", header.extended_l2());
  report->Flag("dirty", header.dirty());
  report->Flag("corrupt", header.corrupt());
  report->Flag("lazy_refcounts", (header.compatible & 1) != 0);
  report->Number("snapshots", header.snapshots);
  report->Number("bitmaps", header.bitmaps);
  report->Text("backing_file", header.backing_name);
  report->Text("backing_format", header.backing_format);
  // Whether a VM can have it as a disk, and why not.
  const absl::Status supported = block::qcow2::CheckFeatures(header);
  report->Flag("supported", supported.ok());
  report->Flag("writable", supported.ok() && header.version > 1 &&
                               !header.encrypted() && !header.corrupt());
  report->Text("unsupported", std::string(supported.message()));
}

absl::StatusOr<int> Info(Request request) {
  NamedFile& first = request.image[0];
  Report report(request.json);
  const int64_t file_bytes = first.file->Size();
  report.Text("image", first.name);
  report.Text("format", first.is_qcow2 ? "qcow" : "raw");
  report.Number("file_bytes", static_cast<uint64_t>(file_bytes));
  if (!first.is_qcow2) {
    report.Number("disk_bytes", static_cast<uint64_t>(file_bytes));
  } else {
    auto header = block::qcow2::DescribeHeader(*first.file);
    if (!header.ok()) return header.status();
    ReportHeader(*header, &report);
  }
  if (absl::Status s = Print(report.Finish()); !s.ok()) return s;
  return 0;
}

const char* NameOf(Extent::Kind kind) {
  switch (kind) {
    case Extent::Kind::kData:
      return "data";
    case Extent::Kind::kCompressed:
      return "compressed";
    case Extent::Kind::kEncrypted:
      return "encrypted";
    case Extent::Kind::kInvalid:
      return "corrupt";
    default:
      return "zero";
  }
}

absl::StatusOr<int> MapDisk(Request request) {
  std::vector<std::string> names;
  for (const NamedFile& file : request.image) names.push_back(file.name);
  auto layers = block::qcow2::OpenLayers(ChainOf(std::move(request.image)),
                                         /*l2_cache_bytes=*/1 << 20);
  if (!layers.ok()) return layers.status();
  uint64_t end = 0;
  if (absl::Status s = Clip(request, (*layers)[0].size_bytes, &end); !s.ok()) {
    return s;
  }
  std::string text;
  uint64_t at = request.offset;
  while (at < end) {
    auto place = block::qcow2::Locate(*layers, at, end - at);
    if (!place.ok()) return place.status();
    uint64_t length = place->extent.length_bytes;
    // Runs that go on where this one ends.
    while (at + length < end && place->extent.kind == Extent::Kind::kZero) {
      auto next = block::qcow2::Locate(*layers, at + length, end - at - length);
      if (!next.ok() || next->extent.kind != place->extent.kind ||
          next->layer != place->layer) {
        break;
      }
      length += next->extent.length_bytes;
    }
    Report report(request.json);
    report.Number("offset", at);
    report.Number("length", length);
    report.Text("kind", NameOf(place->extent.kind));
    if (place->layer < names.size()) {
      report.Number("depth", place->layer);
      if (place->extent.kind == Extent::Kind::kData ||
          place->extent.kind == Extent::Kind::kCompressed ||
          place->extent.kind == Extent::Kind::kEncrypted) {
        report.Number("file_offset", place->extent.host_offset);
      }
    }
    std::string line = report.Finish();
    if (!request.json) {
      std::replace(line.begin(), line.end(), '\n', ' ');
      line.back() = '\n';
    }
    text += line;
    if (text.size() > kPiece) {
      if (absl::Status s = Print(std::exchange(text, "")); !s.ok()) return s;
    }
    at += length;
  }
  if (absl::Status s = Print(text); !s.ok()) return s;
  return 0;
}

absl::StatusOr<int> CheckImage(Request request) {
  if (!request.image[0].is_qcow2) {
    return absl::InvalidArgumentError("a raw image has nothing to check");
  }
  auto check =
      block::qcow2::Check(*request.image[0].file, block::qcow2::kToolBudget);
  if (!check.ok()) return check.status();
  Report report(request.json);
  report.Number("corruptions", check->corruptions);
  report.Number("leaked_clusters", check->leaks);
  report.Number("data_clusters", check->data_clusters);
  report.Number("compressed_clusters", check->compressed_clusters);
  report.Text("first_problem", check->first_problem);
  if (absl::Status s = Print(report.Finish()); !s.ok()) return s;
  return check->corruptions > 0 ? 1 : 0;
}

absl::StatusOr<int> ReadDisk(Backend& disk, const Request& request) {
  uint64_t end = 0;
  if (absl::Status s = Clip(request, disk.geometry().capacity_bytes, &end);
      !s.ok()) {
    return s;
  }
  std::string data(kPiece, 0);
  for (uint64_t at = request.offset; at < end;) {
    const uint64_t n = std::min(kPiece, end - at);
    if (absl::Status s = Do(disk, Operation::kRead, at, n, data.data());
        !s.ok()) {
      return s;
    }
    if (absl::Status s = Print(data.substr(0, n)); !s.ok()) return s;
    at += n;
  }
  return 0;
}

// What has been changed, for programs; people see that it went well.
absl::StatusOr<int> ReportRange(const Request& request, uint64_t offset,
                                uint64_t length) {
  if (!request.json) return 0;
  Report report(/*json=*/true);
  report.Number("offset", offset);
  report.Number("length", length);
  if (absl::Status s = Print(report.Finish()); !s.ok()) return s;
  return 0;
}

// The input, to its end. What is left of its last sector stays as it was.
absl::StatusOr<int> WriteDisk(Backend& disk, const Request& request) {
  std::string data(kPiece, 0);
  uint64_t at = request.offset;
  for (;;) {
    const int64_t n = ReadUpTo(kInput, data.data(), kPiece);
    if (n < 0) {
      return absl::UnavailableError(
          absl::StrCat("input: ", strerror(static_cast<int>(-n))));
    }
    if (n == 0) break;
    const auto bytes = static_cast<uint64_t>(n);
    const uint64_t whole = bytes / kSector * kSector;
    if (whole < bytes) {
      std::string last(kSector, 0);
      if (absl::Status s =
              Do(disk, Operation::kRead, at + whole, kSector, last.data());
          !s.ok()) {
        return s;
      }
      memcpy(&data[bytes], &last[bytes - whole], kSector - (bytes - whole));
    }
    const uint64_t length = (bytes + kSector - 1) / kSector * kSector;
    if (absl::Status s = Do(disk, Operation::kWrite, at, length, data.data());
        !s.ok()) {
      return s;
    }
    at += length;
    if (bytes < kPiece) break;
  }
  if (absl::Status s = Do(disk, Operation::kFlush, 0, 0); !s.ok()) return s;
  return ReportRange(request, request.offset, at - request.offset);
}

absl::StatusOr<int> Clear(Backend& disk, const Request& request) {
  uint64_t end = 0;
  if (absl::Status s = Clip(request, disk.geometry().capacity_bytes, &end);
      !s.ok()) {
    return s;
  }
  const Operation operation =
      request.verb == "zero" ? Operation::kWriteZeroes : Operation::kDiscard;
  absl::Status status =
      Do(disk, operation, request.offset, end - request.offset);
  if (status.ok()) status = Do(disk, Operation::kFlush, 0, 0);
  if (!status.ok()) return status;
  return ReportRange(request, request.offset, end - request.offset);
}

// ---- bench

struct BenchRequest : block::Request {
  Backend* disk;
  uint64_t* next;
  uint64_t* left;
  uint64_t step;
  bool failed = false;
  iovec segment;
};

void SubmitNext(BenchRequest* request) {
  const uint64_t capacity = request->disk->geometry().capacity_bytes;
  request->offset_bytes = *request->next;
  *request->next += request->step;
  if (*request->next > capacity - request->length_bytes) {
    *request->next %= capacity - request->length_bytes + kSector;
    *request->next -= *request->next % kSector;
  }
  --*request->left;
  request->disk->Submit(request);
}

double Seconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) +
         static_cast<double>(now.tv_nsec) * 1e-9;
}

absl::StatusOr<int> Bench(Backend& disk, const Request& request) {
  const uint64_t block_bytes = request.block_bytes;
  if (block_bytes == 0 || block_bytes % kSector != 0 || block_bytes > kPiece ||
      block_bytes > disk.geometry().capacity_bytes || request.depth == 0 ||
      request.depth > block::kMaxInFlight) {
    return absl::InvalidArgumentError(
        "a block is whole sectors, at most 1 MiB and no larger than the disk; "
        "depth is 1 to 256");
  }
  std::string memory(block_bytes * request.depth, 'b');
  std::vector<BenchRequest> requests(request.depth);
  uint64_t next = request.offset;
  uint64_t left = request.count;
  for (size_t i = 0; i < requests.size(); ++i) {
    BenchRequest& one = requests[i];
    one.operation = request.write ? Operation::kWrite : Operation::kRead;
    one.length_bytes = block_bytes;
    one.segment = {&memory[i * block_bytes], block_bytes};
    one.segments = &one.segment;
    one.segment_count = 1;
    one.disk = &disk;
    one.next = &next;
    one.left = &left;
    one.step = block_bytes * 30011;
    one.done = [](block::Request* r) {
      auto* done = static_cast<BenchRequest*>(r);
      done->failed |= r->status != IoStatus::kOk;
      if (*done->left > 0 && !done->failed) SubmitNext(done);
    };
  }
  const double start = Seconds();
  for (BenchRequest& one : requests) {
    if (left > 0) SubmitNext(&one);
  }
  while (disk.in_flight() > 0) PollOnce(disk);
  if (request.write) {
    if (absl::Status s = Do(disk, Operation::kFlush, 0, 0); !s.ok()) return s;
  }
  const double took = std::max(Seconds() - start, 1e-9);
  for (const BenchRequest& one : requests) {
    if (one.failed) return absl::DataLossError(NameOf(one.status));
  }
  Report report(request.json);
  const auto done = static_cast<double>(request.count - left);
  report.Number("requests", request.count - left);
  report.Number("microseconds", static_cast<uint64_t>(took * 1e6));
  report.Number("requests_per_second", static_cast<uint64_t>(done / took));
  report.Number(
      "bytes_per_second",
      static_cast<uint64_t>(done * static_cast<double>(block_bytes) / took));
  if (absl::Status s = Print(report.Finish()); !s.ok()) return s;
  return 0;
}

// ---- compare

absl::StatusOr<int> Compare(Backend& disk, Backend& other, bool json) {
  const uint64_t sizes[] = {disk.geometry().capacity_bytes,
                            other.geometry().capacity_bytes};
  const uint64_t common = std::min(sizes[0], sizes[1]);
  const uint64_t longest = std::max(sizes[0], sizes[1]);
  std::string ours(kPiece, 0);
  std::string theirs(kPiece, 0);
  uint64_t differs_at = longest;
  for (uint64_t at = 0; at < longest && differs_at == longest;) {
    const uint64_t edge = at < common ? common : longest;
    const uint64_t n = std::min(kPiece, edge - at);
    std::string* buffers[] = {&ours, &theirs};
    Backend* disks[] = {&disk, &other};
    for (int i = 0; i < 2; ++i) {
      // Beyond the end of the shorter one there are zeroes.
      memset(buffers[i]->data(), 0, n);
      if (at >= sizes[i]) continue;
      if (absl::Status s =
              Do(*disks[i], Operation::kRead, at, n, buffers[i]->data());
          !s.ok()) {
        return s;
      }
    }
    const auto end = ours.begin() + static_cast<ptrdiff_t>(n);
    const auto first = std::mismatch(ours.begin(), end, theirs.begin()).first;
    if (first != end) {
      differs_at = at + static_cast<uint64_t>(first - ours.begin());
    }
    at += n;
  }
  Report report(json);
  report.Flag("identical", differs_at == longest);
  report.Flag("same_size", sizes[0] == sizes[1]);
  if (differs_at < longest) report.Number("first_difference", differs_at);
  if (absl::Status s = Print(report.Finish()); !s.ok()) return s;
  return differs_at == longest ? 0 : 1;
}

}  // namespace

absl::StatusOr<int> Run(Request request) {
  if (request.verb == "info") return Info(std::move(request));
  if (request.verb == "map") return MapDisk(std::move(request));
  if (request.verb == "check") return CheckImage(std::move(request));
  const bool writes = request.verb == "write" || request.verb == "zero" ||
                      request.verb == "discard" || request.write;
  auto disk = OpenDisk(std::move(request.image), std::move(request.pool),
                       /*read_only=*/!writes);
  if (!disk.ok()) return disk.status();
  if (request.verb == "read") return ReadDisk(**disk, request);
  if (request.verb == "write") return WriteDisk(**disk, request);
  if (request.verb == "bench") return Bench(**disk, request);
  if (request.verb == "zero" || request.verb == "discard") {
    return Clear(**disk, request);
  }
  if (request.verb == "compare") {
    auto other = OpenDisk(std::move(request.other),
                          std::move(request.other_pool), /*read_only=*/true);
    if (!other.ok()) return other.status();
    return Compare(**disk, **other, request.json);
  }
  return absl::InvalidArgumentError("unknown command");
}

}  // namespace bulkhead::image_tool
