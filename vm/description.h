// Description is a VM as its owner described it, in textproto or with flags,
// together with where each field stands, so that an error can point at it.
//
// TRUST    The owner's own words. Nothing here comes from a guest or an image.
// ERRORS   UserError, with "file:line:column" or the flag.
// THREADS  One thread.

#ifndef BULKHEAD_VM_DESCRIPTION_H_
#define BULKHEAD_VM_DESCRIPTION_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/error.h"
#include "proto/vm.pb.h"

namespace bulkhead::vm {

struct Place {
  int line = -1;  // from 0; -1: the field was given by a flag
  int column = 0;
  std::string flag;  // "--disk lsi0:0,file=x.qcow2"
};

class Description {
 public:
  // Of a textproto. `name` is what the user called the file.
  static absl::StatusOr<Description> Parse(const std::string& name,
                                           const std::string& text);
  // An empty one, for flags to fill.
  Description() = default;

  VmSpec& spec() { return spec_; }
  const VmSpec& spec() const { return spec_; }

  // Where relative paths start.
  void set_base_directory(std::string path) { base_ = std::move(path); }
  // `path` as the launcher opens it.
  std::string Resolve(const std::string& path) const;

  // Remembers that the field `path` ("devices[0].id") was set by `flag`.
  void SetByFlag(const std::string& path, const std::string& flag);
  // "machine.vcpus=4", "devices.ID.slot=00:05.0": sets one scalar field.
  absl::Status Set(const std::string& assignment);

  // An error about the field `path`, or about the nearest field around it that
  // has a place. "`path`: " is put before `what`.
  absl::Status ErrorAt(const std::string& path, ExitCode exit_code,
                       const std::string& id, const std::string& what,
                       const std::string& fix) const;

 private:
  std::string Where(const Place& place) const;
  std::string Excerpt(const Place& place) const;

  VmSpec spec_;
  std::string file_name_;
  std::vector<std::string> lines_;
  std::string base_;
  std::map<std::string, Place> places_;  // by field path
};

// "devices" is near "device": what was probably meant, or "".
std::string Nearest(const std::string& word,
                    const std::vector<std::string>& candidates);

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_DESCRIPTION_H_
