#include "sandbox/root_filesystem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

namespace bulkhead::sandbox {
namespace {

// A folder that every host has. Only the child's own mounts change.
constexpr char kStage[] = "/proc";

constexpr unsigned long kInert = MS_NOSUID | MS_NODEV | MS_NOEXEC;

// These are made anew, never shown from a tree.
bool IsPrivateFolder(const char* name) {
  for (const char* own : {".", "..", "dev", "proc", "run", "sys", "tmp"}) {
    if (std::strcmp(name, own) == 0) return true;
  }
  return false;
}

int CloneTree(int folder, const char* path, int flags) {
  return static_cast<int>(
      syscall(SYS_open_tree, folder, path,
              OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | flags));
}

std::string Staged(const std::string& target) { return kStage + target; }

}  // namespace

void RootFilesystem::OpenSources() {
  // Nothing that is mounted here may reach the host, and the reverse.
  if (mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    io_.Fail(Step::kPropagation);
  }
  if (spec_.policy->empty_root) return;
  if (!spec_.tree.empty()) OpenTree();
  for (size_t i = 0; i < spec_.binds.size(); ++i) {
    OpenBind(static_cast<int>(i));
  }
  if (spec_.tree.empty()) {
    // The host's own /usr brings the links that lead into it.
    for (const char* name : {"bin", "sbin", "lib", "lib64"}) {
      pieces_.push_back({.target = std::string("/") + name,
                         .link = std::string("usr/") + name});
    }
  }
}

void RootFilesystem::OpenTree() {
  DIR* tree = opendir(spec_.tree.c_str());
  if (tree == nullptr) io_.Fail(Step::kTree, -1);
  while (const dirent* entry = readdir(tree)) {
    if (IsPrivateFolder(entry->d_name)) continue;
    Piece piece = {.target = std::string("/") + entry->d_name};
    char link[PATH_MAX];
    const ssize_t size =
        readlinkat(dirfd(tree), entry->d_name, link, sizeof(link));
    if (size > 0) {
      piece.link.assign(link, size);
    } else {
      piece.folder = true;
      piece.mount = CloneTree(dirfd(tree), entry->d_name, AT_SYMLINK_NOFOLLOW);
      if (piece.mount < 0) io_.Fail(Step::kTree, -1);
      struct stat status;
      if (fstat(piece.mount, &status) != 0) io_.Fail(Step::kTree, -1);
      if (!S_ISDIR(status.st_mode)) {
        close(piece.mount);
        continue;
      }
    }
    pieces_.push_back(piece);
  }
  closedir(tree);
}

void RootFilesystem::OpenBind(int index) {
  const Bind& bind = spec_.binds[index];
  Piece piece = {.target = bind.target, .writable = bind.writable};
  piece.ready = bind.mount_fd >= 0;
  piece.mount = piece.ready ? kFirstMountFd + index
                            : CloneTree(AT_FDCWD, bind.source.c_str(), 0);
  struct stat status;
  if (piece.mount < 0 || fstat(piece.mount, &status) != 0) {
    io_.Fail(Step::kTree, index);
  }
  piece.folder = S_ISDIR(status.st_mode);
  piece.device = S_ISCHR(status.st_mode);
  pieces_.push_back(piece);
}

void RootFilesystem::Enter() {
  const char* options = spec_.policy->empty_root
                            ? "mode=0555,size=4k,nr_inodes=2"
                            : "mode=0755,size=1m,nr_inodes=1k";
  if (mount("jail", kStage, "tmpfs", kInert, options) != 0) {
    io_.Fail(Step::kRootMount);
  }
  for (const Piece& piece : pieces_) Show(piece);
  if (!spec_.policy->empty_root) {
    if (spec_.mount_proc) {
      const std::string proc = Staged("/proc");
      mkdir(proc.c_str(), 0555);
      if (mount("proc", proc.c_str(), "proc", kInert, "subset=pid") != 0) {
        io_.Fail(Step::kProc);
      }
    }
    for (size_t i = 0; i < spec_.scratch.size(); ++i) {
      MountScratch(spec_.scratch[i], static_cast<int>(i));
    }
  }
  Pivot();
}

void RootFilesystem::MakeParents(const std::string& target) {
  for (size_t slash = target.find('/', 1); slash != std::string::npos;
       slash = target.find('/', slash + 1)) {
    mkdir(Staged(target.substr(0, slash)).c_str(), 0755);
  }
}

void RootFilesystem::Show(const Piece& piece) {
  const std::string path = Staged(piece.target);
  const int index = static_cast<int>(&piece - pieces_.data());
  MakeParents(piece.target);
  if (!piece.link.empty()) {
    if (symlink(piece.link.c_str(), path.c_str()) != 0 && errno != EEXIST) {
      io_.Fail(Step::kBind, index);
    }
    return;
  }
  // Something to mount on, unless the tree has it already.
  if (piece.folder) {
    mkdir(path.c_str(), 0755);
  } else if (const int fd =
                 open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
             fd >= 0) {
    close(fd);
  }
  struct mount_attr attr = {};
  attr.attr_set = MOUNT_ATTR_NOSUID;
  if (!piece.writable) attr.attr_set |= MOUNT_ATTR_RDONLY;
  if (!piece.device) attr.attr_set |= MOUNT_ATTR_NODEV;
  if ((!piece.ready &&
       syscall(SYS_mount_setattr, piece.mount, "", AT_EMPTY_PATH | AT_RECURSIVE,
               &attr, sizeof(attr)) != 0) ||
      syscall(SYS_move_mount, piece.mount, "", AT_FDCWD, path.c_str(),
              MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    io_.Fail(Step::kBind, index);
  }
  close(piece.mount);
}

void RootFilesystem::MountScratch(const std::string& target, int index) {
  MakeParents(target);
  const std::string path = Staged(target);
  mkdir(path.c_str(), 0755);
  const std::string options =
      "mode=0700,nr_inodes=1k,size=" + std::to_string(spec_.scratch_bytes);
  if (mount("scratch", path.c_str(), "tmpfs", kInert, options.c_str()) != 0) {
    io_.Fail(Step::kScratch, index);
  }
}

void RootFilesystem::Pivot() {
  if (chdir(kStage) != 0 || syscall(SYS_pivot_root, ".", ".") != 0 ||
      umount2(".", MNT_DETACH) != 0 || chdir("/") != 0) {
    io_.Fail(Step::kPivot);
  }
  // The mount, and the file system behind it.
  if (mount("", "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | kInert,
            nullptr) != 0 ||
      mount("", "/", nullptr, MS_REMOUNT | MS_RDONLY | kInert, nullptr) != 0) {
    io_.Fail(Step::kReadOnly);
  }
}

}  // namespace bulkhead::sandbox
