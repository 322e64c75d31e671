// RootFilesystem makes the root that a jailed process sees: nothing at all, or
// a read-only tmpfs with a runtime tree's entries, some binds, scratch folders
// and /proc. The host's root is detached and unreachable afterwards.
//
// TRUST    The launcher's own code and paths; symbolic links of the host are
//          followed while the sources are opened, never after.
// ERRORS   Through ChildIo: the child ends.
// THREADS  The child of a single-threaded process.

#ifndef BULKHEAD_SANDBOX_ROOT_FILESYSTEM_H_
#define BULKHEAD_SANDBOX_ROOT_FILESYSTEM_H_

#include <string>
#include <vector>

#include "sandbox/child_io.h"
#include "sandbox/jail.h"

namespace bulkhead::sandbox {

// Where the child keeps the mount of bind number 0, and from there on.
inline constexpr int kFirstMountFd = kProgramFd + 2;

class RootFilesystem {
 public:
  RootFilesystem(const JailSpec& spec, ChildIo& io) : spec_(spec), io_(io) {}

  // Opens what the root will show, while the process still is who the launcher
  // is and may search the host's folders.
  void OpenSources();

  // Builds the root and enters it.
  void Enter();

 private:
  // One entry of the root.
  struct Piece {
    std::string target;
    int mount = -1;      // a detached mount
    bool ready = false;  // with all its attributes
    std::string link;    // or where a symbolic link leads
    bool folder = false;
    bool writable = false;
    bool device = false;
  };

  void OpenTree();
  void OpenBind(int index);
  void Show(const Piece& piece);
  void MakeParents(const std::string& target);
  void MountScratch(const std::string& target, int index);
  void Pivot();

  const JailSpec& spec_;
  ChildIo& io_;
  std::vector<Piece> pieces_;
};

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_ROOT_FILESYSTEM_H_
