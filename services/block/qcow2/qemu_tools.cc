#include "services/block/qcow2/qemu_tools.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "proto/service_config.pb.h"
#include "services/block/open.h"

namespace bulkhead::block::qcow2 {
namespace {

std::vector<std::string> Split(const std::string& words) {
  std::istringstream stream(words);
  std::vector<std::string> result;
  for (std::string word; stream >> word;) result.push_back(word);
  return result;
}

// Keeps the fd open for as long as the backend that uses it.
class OpenedDisk final : public Backend {
 public:
  OpenedDisk(std::unique_ptr<Backend> backend, std::vector<int> fds)
      : backend_(std::move(backend)), fds_(std::move(fds)) {}
  ~OpenedDisk() override {
    backend_.reset();
    for (const int fd : fds_) close(fd);
  }
  const Geometry& geometry() const override { return backend_->geometry(); }
  void Submit(Request* request) override { backend_->Submit(request); }
  size_t Poll() override { return backend_->Poll(); }
  int event_fd() const override { return backend_->event_fd(); }
  size_t in_flight() const override { return backend_->in_flight(); }
  void Grow(Growth* growth) override { backend_->Grow(growth); }
  void SetWriteCache(bool on) override { backend_->SetWriteCache(on); }
  void ReportStatistics(Statistics* statistics) const override {
    backend_->ReportStatistics(statistics);
  }

 private:
  std::unique_ptr<Backend> backend_;
  std::vector<int> fds_;
};

}  // namespace

ImageDirectory::ImageDirectory() {
  path_ = ::testing::TempDir() + "/images_XXXXXX";
  EXPECT_NE(mkdtemp(path_.data()), nullptr);
}

ImageDirectory::~ImageDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

ToolResult RunTool(const std::vector<std::string>& command) {
  int out[2];
  ToolResult result;
  if (pipe2(out, O_CLOEXEC) != 0) return result;
  const pid_t pid = fork();
  if (pid == 0) {
    std::vector<char*> argv;
    for (const std::string& word : command) {
      argv.push_back(const_cast<char*>(word.c_str()));
    }
    argv.push_back(nullptr);
    dup2(out[1], 1);
    dup2(out[1], 2);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  close(out[1]);
  char buffer[65536];
  for (ssize_t n; (n = read(out[0], buffer, sizeof(buffer))) > 0;) {
    result.output.append(buffer, static_cast<size_t>(n));
  }
  close(out[0]);
  int status = 0;
  waitpid(pid, &status, 0);
  result.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return result;
}

void QemuImg(const std::string& arguments) {
  std::vector<std::string> command = Split(arguments);
  command.insert(command.begin(), "qemu-img");
  const ToolResult result = RunTool(command);
  ASSERT_EQ(result.exit_status, 0)
      << "qemu-img " << arguments << ": " << result.output;
}

void QemuIo(const std::string& image,
            const std::vector<std::string>& commands) {
  std::vector<std::string> command = {"qemu-io", "-f", "qcow2"};
  for (const std::string& one : commands) {
    command.push_back("-c");
    command.push_back(one);
  }
  command.push_back(image);
  const ToolResult result = RunTool(command);
  ASSERT_EQ(result.exit_status, 0) << result.output;
}

std::string CheckComplaint(const std::string& image) {
  const ToolResult result =
      RunTool({"qemu-img", "check", "-f", "qcow2", image});
  return result.exit_status == 0 ? "" : result.output;
}

std::string CorruptionComplaint(const std::string& image) {
  // Without its parent, which a check does not need.
  const ToolResult result = RunTool(
      {"qemu-img", "check",
       "json:{\"driver\":\"qcow2\",\"backing\":null,\"file\":{\"driver\":"
       "\"file\",\"filename\":\"" +
           image + "\"}}"});
  return result.exit_status == 0 || result.exit_status == 3 ? ""
                                                            : result.output;
}

std::string ContentByQemu(const std::string& image) {
  const std::string raw = image + ".content";
  QemuImg("convert -U -f qcow2 -O raw " + image + " " + raw);
  std::ifstream file(raw, std::ios::binary);
  std::string content((std::istreambuf_iterator<char>(file)),
                      std::istreambuf_iterator<char>());
  std::filesystem::remove(raw);
  return content;
}

absl::StatusOr<std::unique_ptr<Backend>> TryOpenDisk(
    const std::vector<ChainMember>& chain, const DiskOptions& options) {
  BackendConfig config;
  config.set_read_only(options.read_only);
  std::vector<int> fds;
  for (size_t i = 0; i < chain.size(); ++i) {
    ImageFile* file = i == 0 ? config.mutable_image() : config.add_backing();
    const bool writable = i == 0 && !options.read_only;
    fds.push_back(open(chain[i].path.c_str(),
                       (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC));
    EXPECT_GE(fds.back(), 0) << chain[i].path;
    file->set_fd(fds.back());
    file->set_format(chain[i].is_qcow2 ? QCOW2 : RAW);
    file->set_name(chain[i].path);
    if (chain[i].key_file.empty()) continue;
    fds.push_back(open(chain[i].key_file.c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_GE(fds.back(), 0) << chain[i].key_file;
    file->set_key_fd(fds.back());
  }
  auto backend =
      Open(config, {.workers = options.workers, .locks_down = false});
  if (!backend.ok()) {
    for (const int fd : fds) close(fd);
    return backend.status();
  }
  return std::make_unique<OpenedDisk>(*std::move(backend), std::move(fds));
}

Rig OpenDisk(const std::vector<ChainMember>& chain,
             const DiskOptions& options) {
  auto backend = TryOpenDisk(chain, options);
  EXPECT_TRUE(backend.ok()) << backend.status();
  return Rig(*std::move(backend));
}

std::string Content(Rig& rig) {
  constexpr uint64_t kPiece = 1 << 20;
  const uint64_t size = rig.backend().geometry().capacity_bytes;
  std::string content;
  for (uint64_t at = 0; at < size; at += kPiece) {
    std::string piece;
    const IoStatus status = rig.Read(at, std::min(kPiece, size - at), &piece);
    EXPECT_EQ(status, IoStatus::kOk) << "at " << at;
    content += piece;
  }
  return content;
}

std::string Pattern(uint64_t seed, uint64_t offset, size_t bytes) {
  std::string data(bytes, 0);
  for (size_t i = 0; i < bytes; i += 8) {
    uint64_t x = (seed + 1) * 0x9e3779b97f4a7c15 + offset + i;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9;
    x ^= x >> 32;
    for (size_t j = 0; j < 8 && i + j < bytes; ++j) {
      data[i + j] = static_cast<char>(x >> (8 * j));
    }
  }
  return data;
}

}  // namespace bulkhead::block::qcow2
