// Resources makes everything that the planned processes hold: memory, channels,
// sockets, opened images. After it, no file of the user's is opened any more.
//
// ERRORS   UserError for what the user can mend (files, memory, directory);
//          Internal otherwise. Nothing is left behind by an error.
// THREADS  One thread.

#ifndef BULKHEAD_LAUNCHER_RESOURCES_H_
#define BULKHEAD_LAUNCHER_RESOURCES_H_

#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launcher/fd.h"
#include "launcher/plan.h"

namespace bulkhead::launcher {

class Resources {
 public:
  Resources() = default;
  ~Resources();
  Resources(const Resources&) = delete;
  Resources& operator=(const Resources&) = delete;

  // Opens the images and fills their formats into the plan.
  absl::Status OpenImages(const Description& description, Plan* plan);
  // And lets go of their locks.
  void CloseImages();

  absl::Status MakeMemories(const Description& description, const Plan& plan);
  // The vfio-user sockets. With a runtime directory they lie there, mode 0600,
  // and stay until the end; without, they have no name by the time this
  // returns.
  absl::Status MakeSockets(const Plan& plan, const std::string& runtime_dir);

  // The fd for a process. What only one process may hold is given away: the
  // caller closes it once that process runs. The rest is lent.
  int Lend(const Resource& resource) const;
  Fd Take(const Resource& resource);

 private:
  using Key = std::tuple<Resource::Kind, int, int>;

  absl::Status ClaimDirectory(const std::string& directory);
  absl::Status MakeSocket(int device, const std::string& path);

  std::map<Key, Fd> fds_;
  Fd directory_lock_;
  std::vector<std::string> paths_;  // removed at the end, last first
};

// Whether several processes hold the one thing (RAM, images, state): Lend.
bool IsShared(Resource::Kind kind);

}  // namespace bulkhead::launcher

#endif  // BULKHEAD_LAUNCHER_RESOURCES_H_
