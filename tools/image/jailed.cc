// The jailed side of //tools:image: everything that looks at an image. It locks
// itself down before it reads one.

#include <errno.h>
#include <unistd.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "policy/image.h"
#include "sandbox/heap.h"
#include "sandbox/lock_down.h"
#include "services/block/qcow2/chain.h"
#include "tools/image/commands.h"
#include "tools/image/report.h"
#include "tools/image/request.pb.h"
#include "tools/image/stream.h"

namespace bulkhead::image_tool {
namespace {

constexpr int kMessages = 2;
constexpr int kFailed = 2;
constexpr unsigned kMaxWorkers = 8;
// Address space; only what is used is memory.
constexpr size_t kHeapBytes = size_t{1} << 30;

absl::StatusOr<std::string> ReadKey(const ImageFile& file) {
  auto opened = block::MakePosixFile(file.key_fd());
  if (!opened.ok()) return opened.status();
  return block::qcow2::ReadAesKey(**opened);
}

absl::Status TakeFiles(
    const google::protobuf::RepeatedPtrField<ImageFile>& files,
    std::vector<NamedFile>* to) {
  for (const ImageFile& file : files) {
    auto opened = block::MakePosixFile(file.fd());
    if (!opened.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(file.name(), ": ", opened.status().message()));
    }
    std::string key;
    if (file.key_fd() != 0) {
      auto read = ReadKey(file);
      if (!read.ok()) return read.status();
      key = *std::move(read);
    }
    to->push_back({*std::move(opened), file.format() == QCOW2, file.name(),
                   std::move(key)});
  }
  return absl::OkStatus();
}

absl::StatusOr<Request> SetUp(const char* argument) {
  ImageToolRequest message;
  std::string bytes;
  if (!absl::WebSafeBase64Unescape(argument, &bytes) ||
      !message.ParseFromString(bytes) || message.image_size() == 0) {
    return absl::InvalidArgumentError("started by //tools:image only");
  }
  Request request{.verb = message.verb(),
                  .json = message.json(),
                  .offset = message.offset(),
                  .length = message.length(),
                  .count = message.count(),
                  .depth = message.depth(),
                  .block_bytes = message.block_bytes(),
                  .write = message.write()};
  absl::Status status = TakeFiles(message.image(), &request.image);
  if (status.ok()) status = TakeFiles(message.other(), &request.other);
  if (!status.ok()) return status;
  for (auto* pool : {&request.pool, &request.other_pool}) {
    auto made = block::WorkerPool::Create(
        std::min(message.workers(), kMaxWorkers), block::AtEnd::kPark);
    if (!made.ok()) return made.status();
    *pool = *std::move(made);
  }
  return request;
}

int Main(const char* argument) {
  sandbox::ConfigureHeap();
  auto request = SetUp(argument);
  absl::Status status = request.status();
  const bool json = status.ok() && request->json;
  if (status.ok() && !sandbox::ReserveHeap(kHeapBytes)) {
    status = absl::ResourceExhaustedError("no room for the heap");
  }
  if (status.ok()) status = sandbox::LockDown(policy::Image());
  if (status.ok()) {
    const auto result = Run(*std::move(request));
    if (result.ok()) return *result;
    status = result.status();
  }
  Report report(json);
  report.Text("error", std::string(status.message()));
  WriteAll(kMessages, json ? report.Finish()
                           : absl::StrCat(std::string(status.message()), "\n"));
  return kFailed;
}

}  // namespace
}  // namespace bulkhead::image_tool

int main(int argc, char** argv) {
  // Threads are parked, and nothing is to be taken down.
  _exit(argc == 2 ? bulkhead::image_tool::Main(argv[1]) : 2);
}
