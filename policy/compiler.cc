// The policy compiler, run by policy.bzl:
//
//   compiler POLICY.textproto HEADER_PATH OUT.h OUT.cc OUT.listing OUT.expanded
//
// A mistake in the policy is printed, one line each, and fails the build.

#include <fstream>
#include <iostream>
#include <string>

#include "policy/generate.h"
#include "policy/source.h"

namespace bulkhead::policy {
namespace {

int Fail(const std::string& message) {
  std::cerr << message << '\n';
  return 1;
}

bool Write(const char* path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  out.close();
  return static_cast<bool>(out);
}

int Main(int argc, char** argv) {
  if (argc != 7)
    return Fail("usage: compiler POLICY HEADER .h .cc LISTING TEXT");
  const std::string input = argv[1];
  const std::string header = argv[2];

  absl::StatusOr<Source> source = LoadPolicy(input);
  if (!source.ok()) return Fail(std::string(source.status().message()));
  const Policy& policy = source->policy;
  const std::string file = input.substr(input.rfind('/') + 1);
  if (file != policy.name() + ".textproto") {
    return Fail(std::string(
        ErrorAt(source->where, "name", policy.name() + ": not the file's name")
            .message()));
  }
  absl::StatusOr<Compiled> compiled = Compile(*source);
  if (!compiled.ok()) return Fail(std::string(compiled.status().message()));

  const bool written = Write(argv[3], HeaderText(policy, header)) &&
                       Write(argv[4], SourceText(policy, *compiled, header)) &&
                       Write(argv[5], ListingText(policy, *compiled)) &&
                       Write(argv[6], ToText(policy));
  return written ? 0 : Fail("cannot write the output files");
}

}  // namespace
}  // namespace bulkhead::policy

int main(int argc, char** argv) { return bulkhead::policy::Main(argc, argv); }
