// What does a chain of parents cost?
//
//   bazel run -c opt //bench:backing_chain -- --directory=/dev/shm --rounds=9
//
// The same disk twice: one qcow2 image, and four of which each overlay holds
// one cluster in sixteen. Random 4 KiB reads by our engine, in turn; the aim is
// that depth 4 reaches 0.9 of depth 1.

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/str_cat.h"
#include "bench/report.h"
#include "proto/service_config.pb.h"
#include "services/block/open.h"

ABSL_FLAG(std::string, directory, "/dev/shm", "where the images lie");
ABSL_FLAG(int, rounds, 9, "how often each side runs");
ABSL_FLAG(uint64_t, count, 400000, "reads of a run");

namespace bulkhead::bench {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kImage = uint64_t{512} << 20;
constexpr uint64_t kCluster = 64 << 10;
constexpr int kDepth = 4;

void Shell(const std::string& command) {
  if (system(command.c_str()) == 0) return;
  fprintf(stderr, "failed: %s\n", command.c_str());
  exit(1);
}

struct Reader : block::Request {
  iovec segment;
  block::Backend* backend;
  uint64_t* random;
  uint64_t* left;
};

void SubmitNext(Reader* reader) {
  *reader->random = *reader->random * 6364136223846793005 + 1442695040888963407;
  reader->offset_bytes = (*reader->random >> 20) % (kImage / kBlock) * kBlock;
  --*reader->left;
  reader->backend->Submit(reader);
}

double Iops(const std::vector<std::string>& chain, unsigned depth) {
  BackendConfig config;
  config.set_read_only(true);
  std::vector<int> fds;
  for (size_t i = 0; i < chain.size(); ++i) {
    ImageFile* file = i == 0 ? config.mutable_image() : config.add_backing();
    fds.push_back(open(chain[i].c_str(), O_RDONLY));
    file->set_fd(fds.back());
    file->set_format(QCOW2);
    file->set_name(chain[i]);
  }
  auto backend = block::Open(config, {.workers = 2, .locks_down = false});
  if (!backend.ok()) {
    fprintf(stderr, "%s\n", backend.status().ToString().c_str());
    exit(1);
  }
  std::vector<char> memory(depth * kBlock);
  std::vector<std::unique_ptr<Reader>> readers;
  uint64_t random = 1;
  // The first pass fills the caches of tables.
  double seconds = 0;
  for (const uint64_t count :
       {absl::GetFlag(FLAGS_count) / 8, absl::GetFlag(FLAGS_count)}) {
    uint64_t left = count;
    readers.clear();
    for (unsigned i = 0; i < depth; ++i) {
      auto reader = std::make_unique<Reader>();
      reader->operation = block::Operation::kRead;
      reader->length_bytes = kBlock;
      reader->segment = {&memory[i * kBlock], kBlock};
      reader->segments = &reader->segment;
      reader->segment_count = 1;
      reader->backend = backend->get();
      reader->random = &random;
      reader->left = &left;
      reader->done = [](block::Request* request) {
        if (request->status != block::IoStatus::kOk) abort();
        auto* done = static_cast<Reader*>(request);
        if (*done->left > 0) SubmitNext(done);
      };
      readers.push_back(std::move(reader));
    }
    const auto start = std::chrono::steady_clock::now();
    for (auto& reader : readers) {
      if (left > 0) SubmitNext(reader.get());
    }
    while ((*backend)->in_flight() > 0) {
      pollfd event = {(*backend)->event_fd(), POLLIN, 0};
      poll(&event, 1, -1);
      (*backend)->Poll();
    }
    const std::chrono::duration<double> took =
        std::chrono::steady_clock::now() - start;
    seconds = took.count();
  }
  backend->reset();
  for (const int fd : fds) close(fd);
  return static_cast<double>(absl::GetFlag(FLAGS_count)) / seconds;
}

// Nearest first.
std::vector<std::string> MakeChain(const std::string& at) {
  std::vector<std::string> chain = {at + "0"};
  Shell(absl::StrCat("head -c ", kImage, " /dev/urandom > ", at,
                     "raw && qemu-img convert -q -f raw -O qcow2 ", at, "raw ",
                     at, "0 && rm ", at, "raw"));
  for (int i = 1; i < kDepth; ++i) {
    const std::string image = absl::StrCat(at, i);
    Shell(absl::StrCat("qemu-img create -q -f qcow2 -F qcow2 -b ", chain[0],
                       " ", image));
    const std::string script = image + ".script";
    FILE* file = fopen(script.c_str(), "w");
    if (file == nullptr) exit(1);
    for (uint64_t cluster = 5 * i; cluster < kImage / kCluster; cluster += 16) {
      fprintf(file, "write -q -P %d %llu 64k\n", i,
              static_cast<unsigned long long>(cluster * kCluster));
    }
    fclose(file);
    Shell(absl::StrCat("qemu-io -f qcow2 ", image, " < ", script,
                       " > /dev/null && rm ", script));
    chain.insert(chain.begin(), image);
  }
  return chain;
}

int Run() {
  const std::string at =
      absl::GetFlag(FLAGS_directory) + "/bulkhead-bench-chain-";
  const std::vector<std::string> chain = MakeChain(at);
  const std::string flat = at + "flat";
  Shell(absl::StrCat("qemu-img convert -q -f qcow2 -O qcow2 ", chain[0], " ",
                     flat));
  Comparison comparison("a chain of 4 against one image",
                        {"depth 4", "depth 1"});
  for (const unsigned depth : {1u, 32u}) {
    const std::string figure = absl::StrCat("4k read, queue depth ", depth);
    comparison.Figure(figure, "IOPS", /*more_is_better=*/true, {0.9});
    for (int round = 0; round < absl::GetFlag(FLAGS_rounds); ++round) {
      comparison.Add(figure, "depth 4", Iops(chain, depth));
      comparison.Add(figure, "depth 1", Iops({flat}, depth));
    }
  }
  Shell("rm -f " + at + "*");
  return comparison.Print() ? 0 : 1;
}

}  // namespace
}  // namespace bulkhead::bench

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return bulkhead::bench::Run();
}
