#include "services/block/open.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "proto/service_config.pb.h"
#include "services/block/file_io.h"
#include "services/block/raw.h"
#include "services/block/worker_pool.h"

namespace bulkhead::block {
namespace {

// More would only queue in the kernel.
constexpr unsigned kMaxWorkers = 16;

absl::Status About(const ImageFile& image, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(image.name(), ": ", status.message()));
}

absl::StatusOr<std::unique_ptr<FileIo>> OpenFile(const ImageFile& image,
                                                 bool writable) {
  const int flags = fcntl(image.fd(), F_GETFL);
  if (flags < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("fd ", image.fd(), " is not open"));
  }
  if (writable && (flags & O_ACCMODE) != O_RDWR) {
    return absl::InvalidArgumentError(
        "the disk is writable, but its file was opened read-only");
  }
  return MakePosixFile(image.fd());
}

absl::StatusOr<std::unique_ptr<Backend>> OpenRaw(
    const BackendConfig& config, std::unique_ptr<WorkerPool> pool) {
  if (config.backing_size() > 0) {
    return absl::FailedPreconditionError(
        "a raw image has no backing file, and the VM description names one");
  }
  auto file = OpenFile(config.image(), !config.read_only());
  if (!file.ok()) return file.status();
  return RawBackend::Create(
      *std::move(file), std::move(pool),
      {.read_only = config.read_only(), .ignore_flush = config.ignore_flush()});
}

absl::StatusOr<std::unique_ptr<Backend>> OpenFormat(
    const BackendConfig& config, std::unique_ptr<WorkerPool> pool) {
  switch (config.image().format()) {
    case RAW:
      return OpenRaw(config, std::move(pool));
    default:
      return absl::UnimplementedError(
          absl::StrCat("unknown image format ", config.image().format()));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> Open(const BackendConfig& config,
                                              const OpenOptions& options) {
  auto pool =
      WorkerPool::Create(std::min(options.workers, kMaxWorkers),
                         options.locks_down ? AtEnd::kPark : AtEnd::kJoin);
  if (!pool.ok()) return pool.status();
  auto backend = OpenFormat(config, *std::move(pool));
  if (!backend.ok()) return About(config.image(), backend.status());
  return backend;
}

}  // namespace bulkhead::block
