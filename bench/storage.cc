// How fast is the storage engine, beside qemu-img bench with its best options?
//
//   bazel run -c opt //bench:storage -- --directory=/dev/shm --rounds=5
//   bazel run -c opt //bench:storage -- --directory=/var/tmp --direct
//       --engine=io_uring
//
// Both sides make the same requests, one buffer each, from one thread: 4 KiB at
// a stride that visits the image out of order. Images are the same file, or
// (for allocating writes) fresh ones. Rounds alternate.
//
// The peer has the best of its engines: for each figure all of them run once
// (shorter), and the fastest is what the rounds are run against.

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <chrono>
#include <functional>
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
ABSL_FLAG(int, rounds, 5, "how often each side runs");
ABSL_FLAG(std::string, only, "", "figures whose name contains this");
ABSL_FLAG(unsigned, workers, 4, "of ours");
ABSL_FLAG(std::string, qemu, "",
          "how qemu-img bench runs, as \"-i native -t none\"; empty: its best");
ABSL_FLAG(bool, direct, false, "O_DIRECT for both (-t none)");
ABSL_FLAG(std::string, engine, "workers", "of ours: workers, io_uring");
ABSL_FLAG(std::string, json, "", "write the samples there");

namespace bulkhead::bench {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kImage = uint64_t{1} << 30;
// An odd number of blocks: all are visited before one is visited again.
constexpr uint64_t kScattered = kBlock * 30011;

struct Case {
  std::string name;
  std::string image;   // created by `create`
  std::string create;  // shell
  bool is_qcow2 = true;
  std::string parent;
  bool write = false;
  unsigned depth = 1;
  uint64_t step = kScattered;
  uint64_t count = 200000;
  bool fresh = false;  // made anew for each run
  double aim = 1.0;
};

void Shell(const std::string& command) {
  if (system(command.c_str()) != 0) {
    fprintf(stderr, "failed: %s\n", command.c_str());
    exit(1);
  }
}

struct Slot : block::Request {
  iovec segment;
  block::Backend* backend;
  uint64_t* next_offset;
  uint64_t* left;
  uint64_t* running;
  uint64_t step;
};

void SubmitNext(Slot* slot) {
  slot->offset_bytes = *slot->next_offset;
  *slot->next_offset = (*slot->next_offset + slot->step) % kImage;
  --*slot->left;
  ++*slot->running;
  slot->backend->Submit(slot);
}

std::vector<int> OpenChain(const Case& c, BackendConfig* config) {
  const int direct = absl::GetFlag(FLAGS_direct) ? O_DIRECT : 0;
  std::vector<int> fds;
  fds.push_back(open(c.image.c_str(), (c.write ? O_RDWR : O_RDONLY) | direct));
  if (absl::GetFlag(FLAGS_engine) == "io_uring") config->set_engine(IO_URING);
  if (direct != 0) config->set_direct_alignment_bytes(512);
  config->mutable_image()->set_fd(fds.back());
  config->mutable_image()->set_format(c.is_qcow2 ? QCOW2 : RAW);
  config->mutable_image()->set_name(c.image);
  config->set_read_only(!c.write);
  for (const char* at = c.parent.c_str(); *at != 0;) {
    const std::string name(at, strcspn(at, " "));
    at += name.size() + (at[name.size()] == ' ' ? 1 : 0);
    fds.push_back(open(name.c_str(), O_RDONLY | direct));
    ImageFile* file = config->add_backing();
    file->set_fd(fds.back());
    file->set_format(QCOW2);
    file->set_name(name);
  }
  return fds;
}

double RunOurs(const Case& c) {
  BackendConfig config;
  const std::vector<int> fds = OpenChain(c, &config);
  auto backend = block::Open(
      config, {.workers = absl::GetFlag(FLAGS_workers), .locks_down = false});
  if (!backend.ok()) {
    fprintf(stderr, "%s\n", backend.status().ToString().c_str());
    exit(1);
  }
  uint64_t next = 0;
  uint64_t left = c.count;
  uint64_t running = 0;
  std::vector<std::unique_ptr<Slot>> slots;
  const std::unique_ptr<char, void (*)(void*)> memory(
      static_cast<char*>(aligned_alloc(kBlock, c.depth * kBlock)), free);
  memset(memory.get(), 'b', c.depth * kBlock);
  for (unsigned i = 0; i < c.depth; ++i) {
    auto slot = std::make_unique<Slot>();
    slot->operation =
        c.write ? block::Operation::kWrite : block::Operation::kRead;
    slot->length_bytes = kBlock;
    slot->segment = {memory.get() + i * kBlock, kBlock};
    slot->segments = &slot->segment;
    slot->segment_count = 1;
    slot->backend = backend->get();
    slot->next_offset = &next;
    slot->left = &left;
    slot->running = &running;
    slot->step = c.step;
    slot->done = [](block::Request* request) {
      auto* done = static_cast<Slot*>(request);
      if (request->status != block::IoStatus::kOk) abort();
      --*done->running;
      if (*done->left > 0) SubmitNext(done);
    };
    slots.push_back(std::move(slot));
  }
  const auto start = std::chrono::steady_clock::now();
  for (auto& slot : slots) {
    if (left > 0) SubmitNext(slot.get());
  }
  while (running > 0) {
    pollfd event = {(*backend)->event_fd(), POLLIN, 0};
    poll(&event, 1, -1);
    (*backend)->Poll();
  }
  // As qemu-img bench -w: a flush ends it.
  if (c.write) {
    Slot flush;
    flush.operation = block::Operation::kFlush;
    static bool flushed;
    flushed = false;
    flush.done = [](block::Request*) { flushed = true; };
    (*backend)->Submit(&flush);
    while (!flushed) {
      pollfd event = {(*backend)->event_fd(), POLLIN, 0};
      poll(&event, 1, -1);
      (*backend)->Poll();
    }
  }
  const std::chrono::duration<double> took =
      std::chrono::steady_clock::now() - start;
  backend->reset();
  for (const int fd : fds) close(fd);
  return static_cast<double>(c.count) / took.count();
}

// `how`: "-i native -t none". 0: it cannot run like that here.
double RunQemu(const Case& c, const std::string& how, uint64_t count) {
  const std::string command =
      absl::StrCat("qemu-img bench ", how, " -f ", c.is_qcow2 ? "qcow2" : "raw",
                   " -c ", count, " -d ", c.depth, " -s 4096 -S ", c.step,
                   c.write ? " -w " : " ", c.image, " 2>&1");
  FILE* pipe = popen(command.c_str(), "r");
  double seconds = 0;
  char line[512];
  while (fgets(line, sizeof(line), pipe) != nullptr) {
    sscanf(line, "Run completed in %lf seconds", &seconds);
  }
  if (pclose(pipe) != 0 || seconds == 0) return 0;
  return static_cast<double>(count) / seconds;
}

std::string BestOfQemu(const Case& c) {
  if (!absl::GetFlag(FLAGS_qemu).empty()) return absl::GetFlag(FLAGS_qemu);
  std::vector<std::string> ways = {"-i native -t none", "-i io_uring -t none",
                                   "-i threads -t none"};
  if (!absl::GetFlag(FLAGS_direct)) {
    ways.push_back("-i io_uring -t writeback");
    ways.push_back("-i threads -t writeback");
  }
  std::string best;
  double most = 0;
  for (const std::string& way : ways) {
    if (c.fresh) Shell(c.create);
    const double iops = RunQemu(c, way, c.count / 4);
    if (iops <= most) continue;
    most = iops;
    best = way;
  }
  if (best.empty()) {
    fprintf(stderr, "qemu-img bench cannot run \"%s\"\n", c.name.c_str());
    exit(1);
  }
  return best;
}

std::vector<Case> Cases(const std::string& directory) {
  const std::string at = directory + "/bulkhead-bench-";
  const std::string raw = at + "raw";
  const std::string qcow2 = at + "qcow2";
  const std::string fresh = at + "fresh";
  const std::string packed = at + "packed";
  const std::string chain = at + "chain";
  const std::string make_raw = "head -c 1G /dev/urandom > " + raw;
  const std::string make_qcow2 =
      "qemu-img convert -q -f raw -O qcow2 " + raw + " " + qcow2;
  const std::string make_fresh = "qemu-img create -q -f qcow2 " + fresh + " 1G";
  const std::string make_packed =
      "yes 'the hold is dry and the pumps are idle' | head -c 1G > " + packed +
      ".raw && qemu-img convert -q -c -f raw -O qcow2 " + packed + ".raw " +
      packed + " && rm " + packed + ".raw";
  std::vector<Case> cases;
  for (const unsigned depth : {1u, 32u}) {
    const std::string suffix = absl::StrCat(", depth ", depth);
    const double aim = depth == 1 ? 1.5 : 1.0;
    cases.push_back({"raw 4k read" + suffix, raw, make_raw, false, "", false,
                     depth, kScattered, 200000, false, aim});
    cases.push_back({"raw 4k write" + suffix, raw, "", false, "", true, depth,
                     kScattered, 200000, false, aim});
    cases.push_back({"qcow2 4k read" + suffix, qcow2,
                     depth == 1 ? make_qcow2 : "", true, "", false, depth,
                     kScattered, 200000, false, aim});
    cases.push_back({"qcow2 4k write" + suffix, qcow2, "", true, "", true,
                     depth, kScattered, 200000, false, aim});
    cases.push_back({"qcow2 4k allocating write" + suffix, fresh, make_fresh,
                     true, "", true, depth, 64 << 10, 16384, true, 3.0});
    cases.push_back({"compressed 4k read" + suffix, packed,
                     depth == 1 ? make_packed : "", true, "", false, depth,
                     kScattered, 4000, false, 1.0});
    cases.push_back({"compressed 4k re-read" + suffix, packed, "", true, "",
                     false, depth, kBlock, 8000, false, 5.0});
  }
  const std::string make_chain =
      "qemu-img create -q -f qcow2 -F qcow2 -b " + qcow2 + " " + chain +
      "1 && qemu-img create -q -f qcow2 -F qcow2 -b " + chain + "1 " + chain +
      "2 && qemu-img create -q -f qcow2 -F qcow2 -b " + chain + "2 " + chain +
      "3";
  cases.push_back({"qcow2 chain of 4, 4k read, depth 1", chain + "3",
                   make_chain, true, chain + "2 " + chain + "1 " + qcow2, false,
                   1, kScattered, 200000, false, 1.0});
  return cases;
}

// Whether a figure that is asked for reads this image; all but the compressed
// one are made of the first.
bool IsNeeded(const std::vector<Case>& cases, const std::string& image,
              const std::string& only) {
  for (const Case& c : cases) {
    if (c.name.find(only) == std::string::npos) continue;
    if (c.image == image ||
        (c.is_qcow2 && c.parent.find(image) != c.parent.npos)) {
      return true;
    }
    const bool from_first = !c.fresh && c.name.find("compressed") != 0;
    if (image == cases[0].image && from_first) return true;
  }
  return false;
}

int Run() {
  const std::string directory = absl::GetFlag(FLAGS_directory);
  const std::vector<Case> cases = Cases(directory);
  Comparison comparison("storage engine in " + directory,
                        {"bulkhead", "qemu-img"});
  const std::string only = absl::GetFlag(FLAGS_only);
  for (const Case& c : cases) {
    if (!c.create.empty() && !c.fresh && IsNeeded(cases, c.image, only)) {
      Shell(c.create);
    }
    if (c.name.find(only) == std::string::npos) continue;
    const std::string how = BestOfQemu(c);
    const std::string name = absl::StrCat(c.name, " (", how, ")");
    comparison.Figure(name, "IOPS", /*more_is_better=*/true, {c.aim});
    for (int round = 0; round < absl::GetFlag(FLAGS_rounds); ++round) {
      if (c.fresh) Shell(c.create);
      comparison.Add(name, "bulkhead", RunOurs(c));
      if (c.fresh) Shell(c.create);
      comparison.Add(name, "qemu-img", RunQemu(c, how, c.count));
    }
  }
  const bool met = comparison.Print();
  comparison.WriteJson(absl::GetFlag(FLAGS_json));
  Shell("rm -f " + directory + "/bulkhead-bench-*");
  return met ? 0 : 1;
}

}  // namespace
}  // namespace bulkhead::bench

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return bulkhead::bench::Run();
}
