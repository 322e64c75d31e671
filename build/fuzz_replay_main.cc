// The main function of a fuzz_test outside libFuzzer: runs every file of the
// folders named on the command line, and inputs derived from them, through
// LLVMFuzzerTestOneInput. The derived inputs are the same in every run.
//
// Options are libFuzzer's spelling; only -max_len is heeded.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr int kDerivedInputs = 4000;
constexpr std::chrono::seconds kDeriveAtMost{5};

using Input = std::vector<uint8_t>;

void Run(const Input& input) {
  // A heap block of exactly this size, so that a sanitizer sees an overrun.
  const Input exact(input.begin(), input.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

Input ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return Input(std::istreambuf_iterator<char>(file), {});
}

std::vector<Input> ReadSeeds(const std::vector<std::string>& paths) {
  std::vector<Input> seeds;
  for (const std::string& path : paths) {
    if (!std::filesystem::is_directory(path)) {
      seeds.push_back(ReadFile(path));
      continue;
    }
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(path)) {
      if (!entry.is_directory()) seeds.push_back(ReadFile(entry.path()));
    }
  }
  return seeds;
}

// Flips, cuts, repeats and grows a seed, as a fuzzer would.
Input Derive(Input input, size_t max_len, std::mt19937& random) {
  static constexpr uint8_t kEdges[] = {0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff};
  const int changes = 1 + static_cast<int>(random() % 8);
  for (int i = 0; i < changes; ++i) {
    const size_t at = input.empty() ? 0 : random() % input.size();
    switch (random() % 5) {
      case 0:
        if (!input.empty()) input[at] ^= uint8_t(1u << (random() % 8));
        break;
      case 1:
        if (!input.empty()) input[at] = kEdges[random() % std::size(kEdges)];
        break;
      case 2:
        input.resize(at);
        break;
      case 3:
        input.insert(input.begin() + static_cast<ptrdiff_t>(at),
                     1 + random() % 16, uint8_t(random()));
        break;
      default:
        for (size_t n = 1 + random() % 64; n > 0; --n) {
          input.push_back(uint8_t(random()));
        }
    }
  }
  if (input.size() > max_len) input.resize(max_len);
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  size_t max_len = 4096;
  std::vector<std::string> paths;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "-max_len=", 9) == 0) {
      max_len = std::strtoul(argv[i] + 9, nullptr, 10);
    } else if (argv[i][0] != '-') {
      paths.push_back(argv[i]);
    }
  }

  std::vector<Input> seeds = ReadSeeds(paths);
  std::printf("replaying %zu seeds\n", seeds.size());
  for (const Input& seed : seeds) Run(seed);

  seeds.push_back({});
  seeds.push_back(Input(64, 0x00));
  seeds.push_back(Input(64, 0xff));
  std::mt19937 random(20250101);
  const auto end = std::chrono::steady_clock::now() + kDeriveAtMost;
  int derived = 0;
  while (derived < kDerivedInputs && std::chrono::steady_clock::now() < end) {
    Run(Derive(seeds[random() % seeds.size()], max_len, random));
    ++derived;
  }
  std::printf("ran %d derived inputs\n", derived);
  return 0;
}
