// Resources makes everything that the planned processes hold: memory, channels,
// sockets, opened images. After it, no file of the user's is opened any more.
//
// TRUST    Images are opened and locked; of their bytes, image.h reads eight.
// ERRORS   UserError for what the user can mend (files, memory, directory);
//          Internal otherwise. Nothing is left behind by an error.
// THREADS  One thread.

#ifndef BULKHEAD_VM_RESOURCES_H_
#define BULKHEAD_VM_RESOURCES_H_

#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"
#include "vm/plan.h"

namespace bulkhead::vm {

class Resources {
 public:
  Resources() = default;
  ~Resources();
  Resources(const Resources&) = delete;
  Resources& operator=(const Resources&) = delete;

  // Opens the images and fills their formats into the plan.
  absl::Status OpenImages(const Description& description, Plan* plan);
  absl::Status MakeMemories(const Description& description, const Plan& plan);
  // What the processes talk through: pipes, channels, QEMU's sockets.
  absl::Status MakeStreams(const Plan& plan);
  // The vfio-user sockets. With a runtime directory they lie there, mode 0600,
  // and stay until the end; without, they have no name by the time this
  // returns.
  absl::Status MakeSockets(const Plan& plan, const std::string& runtime_dir);

  // A remote process of QEMU's own wants its connection from the start. With a
  // runtime directory and x-pci-proxy-dev it is the one that QEMU makes to the
  // device's socket: waits for it, for each such device. False: a signal came
  // instead (they are blocked) and is still pending.
  absl::StatusOr<bool> AwaitProxyUsers(const Plan& plan);

  // Where the launcher answers auditors and takes wishes for longer disks. A
  // line for the user where it cannot be made: without it the VM runs.
  std::string MakeUserSocket(const std::string& vm);
  int user_socket() const { return user_socket_.get(); }

  // The fd; -1: there is none.
  int Get(const Resource& resource) const;

  // Lets live through exec what the launcher holds. False: errno.
  bool KeepOverExec() const;
  // What has to be removed at the end, last first; whoever takes it does so.
  const std::vector<std::string>& leftovers() const { return paths_; }
  // Closes all without removing anything: another process has them.
  void Abandon();

 private:
  using Key = std::tuple<Resource::Kind, int, int>;

  // Of an NBD disk.
  absl::Status FindServer(const Description& description, Plan* plan,
                          int device, int image);
  absl::Status ClaimDirectory(const std::string& directory);
  absl::Status MakeSocket(int device, const std::string& path);
  void Widen(const Resource& resource);
  absl::Status MakePair(int type, const Resource& one, const Resource& other);

  std::map<Key, Fd> fds_;
  Fd directory_lock_;
  Fd user_socket_;
  std::vector<std::string> paths_;  // removed at the end, last first
};

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_RESOURCES_H_
