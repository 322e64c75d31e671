#include "bench/in_process_disk.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "bench/random_disk.h"
#include "proto/service_config.pb.h"

namespace bulkhead::bench {
namespace {

[[noreturn]] void Die(const std::string& what, const std::string& why) {
  fprintf(stderr, "%s: %s\n", what.c_str(), why.c_str());
  exit(1);
}

int Open(const std::string& image) {
  const int fd = open(image.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) Die(image, strerror(errno));
  return fd;
}

}  // namespace

// ---- our own engine

EngineDisk::EngineDisk(const std::string& image, bool qcow2, bool map_memory)
    : image_(Open(image)), memory_(kMaxDepth * kMaxBytes, 'b') {
  BackendConfig config;
  config.mutable_image()->set_fd(image_);
  config.mutable_image()->set_format(qcow2 ? QCOW2 : RAW);
  auto backend = block::Open(
      config, {.workers = 1, .locks_down = false, .map_memory = map_memory});
  if (!backend.ok()) Die(image, backend.status().ToString());
  backend_ = *std::move(backend);
  for (Slot& slot : slots_) {
    slot.self = this;
    slot.segments = &slot.segment;
    slot.segment_count = 1;
    slot.done = [](block::Request* request) {
      Slot* done = static_cast<Slot*>(request);
      if (request->status != block::IoStatus::kOk)
        Die("image", "a request failed");
      done->self->done_.push_back(
          static_cast<unsigned>(done - done->self->slots_));
    };
  }
}

EngineDisk::~EngineDisk() {
  backend_.reset();
  close(image_);
}

uint64_t EngineDisk::capacity_bytes() const { return RandomDisk::kBytes; }

void EngineDisk::Add(unsigned slot, bool write, uint64_t offset_bytes,
                     uint32_t bytes) {
  Slot& request = slots_[slot];
  request.operation =
      write ? block::Operation::kWrite : block::Operation::kRead;
  request.offset_bytes = offset_bytes;
  request.length_bytes = bytes;
  request.segment = {&memory_[uint64_t{slot} * kMaxBytes], bytes};
  added_.push_back(slot);
}

void EngineDisk::Publish() {
  for (const unsigned slot : added_) backend_->Submit(&slots_[slot]);
  added_.clear();
}

bool EngineDisk::Take(unsigned* slot) {
  if (done_.empty()) backend_->Poll();
  if (done_.empty()) return false;
  *slot = done_.back();
  done_.pop_back();
  return true;
}

void EngineDisk::Wait() { backend_->Poll(); }

pid_t EngineDisk::server() const { return getpid(); }

// ---- libblkio

// What is used of its interface, which is stable (blkio(3)).
struct BlkioDisk::Library {
  struct Completion {
    void* user_data;
    const char* error;
    int result;
    uint8_t reserved[12];
  };

  void* handle;
  const char* (*get_error_msg)();
  int (*create)(const char* driver, void** instance);
  int (*set_str)(void* instance, const char* property, const char* value);
  int (*connect)(void* instance);
  int (*start)(void* instance);
  void* (*get_queue)(void* instance, int index);
  void (*destroy)(void** instance);
  void (*read)(void* queue, uint64_t offset_bytes, void* data, size_t bytes,
               void* user_data, uint32_t flags);
  void (*write)(void* queue, uint64_t offset_bytes, const void* data,
                size_t bytes, void* user_data, uint32_t flags);
  int (*do_io)(void* queue, Completion* done, int at_least, int at_most,
               timespec* timeout);

  void* instance = nullptr;
  void* queue = nullptr;

  template <typename Function>
  void Load(Function*& function, const char* name) {
    function = reinterpret_cast<Function*>(dlsym(handle, name));
    if (function == nullptr) Die("libblkio", dlerror());
  }
  explicit Library(void* opened) : handle(opened) {
    Load(get_error_msg, "blkio_get_error_msg");
    Load(create, "blkio_create");
    Load(set_str, "blkio_set_str");
    Load(connect, "blkio_connect");
    Load(start, "blkio_start");
    Load(get_queue, "blkio_get_queue");
    Load(destroy, "blkio_destroy");
    Load(read, "blkioq_read");
    Load(write, "blkioq_write");
    Load(do_io, "blkioq_do_io");
  }
  void Check(int result) const {
    if (result < 0) Die("libblkio", get_error_msg());
  }
};

std::unique_ptr<BlkioDisk> BlkioDisk::Create(const std::string& library,
                                             const std::string& image,
                                             bool waits) {
  void* handle = dlopen(library.c_str(), RTLD_NOW);
  if (handle == nullptr) return nullptr;
  return std::unique_ptr<BlkioDisk>(
      new BlkioDisk(std::make_unique<Library>(handle), image, waits));
}

BlkioDisk::BlkioDisk(std::unique_ptr<Library> library, const std::string& image,
                     bool waits)
    : library_(std::move(library)),
      waits_(waits),
      memory_(kMaxDepth * kMaxBytes, 'b') {
  library_->Check(library_->create("io_uring", &library_->instance));
  library_->Check(library_->set_str(library_->instance, "path", image.c_str()));
  library_->Check(library_->connect(library_->instance));
  library_->Check(library_->start(library_->instance));
  library_->queue = library_->get_queue(library_->instance, 0);
}

BlkioDisk::~BlkioDisk() {
  library_->destroy(&library_->instance);
  dlclose(library_->handle);
}

uint64_t BlkioDisk::capacity_bytes() const { return RandomDisk::kBytes; }

void BlkioDisk::Add(unsigned slot, bool write, uint64_t offset_bytes,
                    uint32_t bytes) {
  char* data = &memory_[uint64_t{slot} * kMaxBytes];
  void* user_data = reinterpret_cast<void*>(uintptr_t{slot});
  if (write) {
    library_->write(library_->queue, offset_bytes, data, bytes, user_data, 0);
  } else {
    library_->read(library_->queue, offset_bytes, data, bytes, user_data, 0);
  }
  ++in_flight_;
  added_ = true;
}

void BlkioDisk::DoIo(int at_least) {
  Library::Completion completions[kMaxDepth];
  const int count = library_->do_io(library_->queue, completions, at_least,
                                    kMaxDepth, nullptr);
  library_->Check(count);
  added_ = false;
  in_flight_ -= static_cast<unsigned>(count);
  for (int i = 0; i < count; ++i) {
    if (completions[i].result != 0) Die("libblkio", "a request failed");
    done_.push_back(static_cast<unsigned>(
        reinterpret_cast<uintptr_t>(completions[i].user_data)));
  }
}

void BlkioDisk::Publish() { DoIo(waits_ && in_flight_ > 0 ? 1 : 0); }

bool BlkioDisk::Take(unsigned* slot) {
  // What was added meanwhile is Publish's.
  if (done_.empty() && !added_) DoIo(0);
  if (done_.empty()) return false;
  *slot = done_.back();
  done_.pop_back();
  return true;
}

void BlkioDisk::Wait() { DoIo(1); }

pid_t BlkioDisk::server() const { return getpid(); }

}  // namespace bulkhead::bench
