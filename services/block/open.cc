#include "services/block/open.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "proto/service_config.pb.h"
#include "services/block/file_io.h"
#include "services/block/metered.h"
#include "services/block/nbd/backend.h"
#include "services/block/qcow2/chain.h"
#include "services/block/raw.h"
#include "services/block/ring.h"
#include "services/block/worker_pool.h"

namespace bulkhead::block {
namespace {

// From the launcher's first connection to the end of the handshake.
constexpr uint64_t kNbdHandshakeNs = 10'000'000'000;
// More would only queue in the kernel.
constexpr unsigned kMaxWorkers = 16;
// Of a cache that the VM description sizes; address space is limited.
constexpr uint64_t kMaxCacheBytes = 128 << 20;

absl::Status About(const ImageFile& image, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(image.name(), ": ", status.message()));
}

absl::StatusOr<std::unique_ptr<FileIo>> OpenFile(const BackendConfig& config,
                                                 const ImageFile& image,
                                                 PosixFileOptions options,
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
  options.direct_alignment_bytes = config.direct_alignment_bytes();
  // A raw disk would be longer at the next start.
  options.whole_blocks = writable && image.format() == RAW;
  return MakePosixFile(image.fd(), options);
}

absl::StatusOr<std::shared_ptr<FileIo>> OpenRawFile(
    const BackendConfig& config, PosixFileOptions file_options) {
  const ImageFile& image = config.image();
  if (image.format() != RAW) {
    return About(image, absl::UnimplementedError(absl::StrCat(
                            "unknown image format ", image.format())));
  }
  if (config.backing_size() > 0) {
    return About(image,
                 absl::FailedPreconditionError("a raw image has no backing "
                                               "file, and the VM description "
                                               "names one"));
  }
  // A sector that is half written is nothing that its owner would look at.
  file_options.map_stores = config.ignore_flush() && !config.read_only();
  auto file = OpenFile(config, image, file_options, !config.read_only());
  if (!file.ok()) return About(image, file.status());
  return std::shared_ptr<FileIo>(*std::move(file));
}

absl::StatusOr<std::unique_ptr<Backend>> OpenRaw(
    const BackendConfig& config, std::shared_ptr<FileIo> file,
    std::unique_ptr<WorkerPool> pool) {
  auto backend = RawBackend::Create(
      std::move(file), std::move(pool),
      {.read_only = config.read_only(), .ignore_flush = config.ignore_flush()});
  if (!backend.ok()) return About(config.image(), backend.status());
  return backend;
}

absl::StatusOr<std::string> ReadKey(const ImageFile& image) {
  if (image.key_fd() == 0) return std::string();
  auto file = MakePosixFile(image.key_fd());
  if (!file.ok()) return file.status();
  return qcow2::ReadAesKey(**file);
}

bool IsQcow(const ImageFile& image) {
  return image.format() == QCOW2 || image.format() == QCOW;
}

absl::Status AddToChain(const BackendConfig& config, const ImageFile& image,
                        const PosixFileOptions& file_options, bool writable,
                        std::vector<qcow2::ChainFile>* chain) {
  if (image.format() != RAW && !IsQcow(image)) {
    return About(image, absl::UnimplementedError(absl::StrCat(
                            "unknown image format ", image.format())));
  }
  auto file = OpenFile(config, image, file_options, writable);
  if (!file.ok()) return About(image, file.status());
  auto key = ReadKey(image);
  if (!key.ok()) return About(image, key.status());
  chain->push_back(
      {*std::move(file), IsQcow(image), image.name(), *std::move(key)});
  return absl::OkStatus();
}

// Errors name the image of the chain that they are about.
absl::StatusOr<std::unique_ptr<Backend>> OpenQcow2(
    const BackendConfig& config, const PosixFileOptions& file_options,
    std::unique_ptr<WorkerPool> pool) {
  std::vector<qcow2::ChainFile> chain;
  absl::Status status = AddToChain(config, config.image(), file_options,
                                   !config.read_only(), &chain);
  for (const ImageFile& parent : config.backing()) {
    if (!status.ok()) break;
    status =
        AddToChain(config, parent, file_options, /*writable=*/false, &chain);
  }
  if (!status.ok()) return status;
  qcow2::ChainOptions options;
  options.engine.read_only = config.read_only();
  options.engine.ignore_flush = config.ignore_flush();
  if (config.cache().table_bytes() > 0) {
    options.l2_cache_bytes =
        std::min(config.cache().table_bytes(), kMaxCacheBytes);
  }
  if (config.cache().decoded_bytes() > 0) {
    options.engine.decoded_cache_bytes =
        std::min(config.cache().decoded_bytes(), kMaxCacheBytes);
  }
  return qcow2::OpenChain(std::move(chain), std::move(pool), options);
}

absl::StatusOr<std::unique_ptr<Backend>> OpenNbd(const BackendConfig& config,
                                                 AtEnd at_end) {
  const NbdConfig& described = config.nbd();
  nbd::ClientOptions options = {
      .export_name = described.export_name(),
      .read_only = config.read_only(),
      .ignore_flush = config.ignore_flush(),
      .block_bytes = std::max(described.block_bytes(), 512u)};
  if (described.patience_seconds() != 0) {
    options.patience_ns =
        uint64_t{described.patience_seconds()} * 1'000'000'000;
  }
  auto backend =
      nbd::NbdBackend::Create(described.connector_fd(), options,
                              nbd::MonotonicNs() + kNbdHandshakeNs, at_end);
  if (backend.ok()) return backend;
  return absl::Status(
      backend.status().code(),
      absl::StrCat(described.name(), ": ", backend.status().message()));
}

// With a ring, not yet enabled, where the disk wants one.
absl::StatusOr<std::unique_ptr<WorkerPool>> MakePool(
    const BackendConfig& config, const OpenOptions& options, AtEnd at_end) {
  auto pool =
      WorkerPool::Create(std::min(options.workers, kMaxWorkers), at_end);
  if (!pool.ok()) return pool.status();
  if (config.engine() == IO_URING) {
    auto ring = Ring::Create((*pool)->event_fd());
    if (!ring.ok()) return About(config.image(), ring.status());
    (*pool)->set_ring(*std::move(ring));
  }
  return pool;
}

absl::Status EnableRing(const BackendConfig& config, Ring* ring) {
  return ring == nullptr ? absl::OkStatus()
                         : About(config.image(), ring->Enable());
}

absl::StatusOr<std::unique_ptr<Backend>> OpenFiles(const BackendConfig& config,
                                                   const OpenOptions& options,
                                                   AtEnd at_end) {
  auto pool = MakePool(config, options, at_end);
  if (!pool.ok()) return pool.status();
  Ring* const ring = (*pool)->ring();
  const PosixFileOptions files = {.ring = ring,
                                  .map_memory = options.map_memory};
  absl::StatusOr<std::unique_ptr<Backend>> backend;
  if (IsQcow(config.image())) {
    backend = OpenQcow2(config, files, *std::move(pool));
  } else {
    auto file = OpenRawFile(config, files);
    if (!file.ok()) return file.status();
    backend = OpenRaw(config, *std::move(file), *std::move(pool));
  }
  if (!backend.ok()) return backend;
  if (absl::Status status = EnableRing(config, ring); !status.ok()) {
    return status;
  }
  return backend;
}

AtEnd EndOf(const OpenOptions& options) {
  return options.locks_down ? AtEnd::kPark : AtEnd::kJoin;
}

absl::StatusOr<std::unique_ptr<Backend>> Meter(std::unique_ptr<Backend> backend,
                                               const BackendConfig& config,
                                               AtEnd at_end) {
  const ThrottleConfig& throttle = config.throttle();
  return Metered::Create(std::move(backend),
                         {.iops = throttle.iops(),
                          .bytes_per_second = throttle.bytes_per_second(),
                          .burst_ios = throttle.burst_ios(),
                          .burst_bytes = throttle.burst_bytes()},
                         at_end);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> Open(const BackendConfig& config,
                                              const OpenOptions& options) {
  const AtEnd at_end = EndOf(options);
  auto backend = config.has_nbd() ? OpenNbd(config, at_end)
                                  : OpenFiles(config, options, at_end);
  if (!backend.ok()) return backend.status();
  return Meter(*std::move(backend), config, at_end);
}

bool CanBeShared(const BackendConfig& config) {
  return !config.has_nbd() && config.image().format() == RAW &&
         config.throttle().iops() == 0 &&
         config.throttle().bytes_per_second() == 0;
}

absl::StatusOr<std::vector<std::unique_ptr<Backend>>> OpenShared(
    const BackendConfig& config, const OpenOptions& options, unsigned count) {
  const AtEnd at_end = EndOf(options);
  std::vector<std::unique_ptr<Backend>> backends;
  std::shared_ptr<FileIo> file;
  for (unsigned i = 0; i < count; ++i) {
    auto pool = MakePool(config, options, at_end);
    if (!pool.ok()) return pool.status();
    Ring* const ring = (*pool)->ring();
    if (file == nullptr) {
      auto opened =
          OpenRawFile(config, {.ring = ring, .map_memory = options.map_memory});
      if (!opened.ok()) return opened.status();
      file = *std::move(opened);
    } else if (ring != nullptr) {
      // Its number in the first ring, where it is the only file as well.
      ring->AddFile(config.image().fd());
    }
    auto backend = OpenRaw(config, file, *std::move(pool));
    if (!backend.ok()) return backend.status();
    if (absl::Status status = EnableRing(config, ring); !status.ok()) {
      return status;
    }
    auto metered = Meter(*std::move(backend), config, at_end);
    if (!metered.ok()) return metered.status();
    backends.push_back(*std::move(metered));
  }
  return backends;
}

}  // namespace bulkhead::block
