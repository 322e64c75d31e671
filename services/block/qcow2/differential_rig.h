// DifferentialRig spoils images that QEMU made, field by field, and compares
// what our engine makes of them with what QEMU and libqcow do.
//
// An opinion is an answer or an error. Two answers about the same bytes must be
// the same; an error is always allowed, for we refuse what QEMU lets pass (data
// that lies on metadata) and the other way round.
//
// ERRORS   What Judge returns.
// THREADS  One; instances are independent.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_DIFFERENTIAL_RIG_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_DIFFERENTIAL_RIG_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "services/block/qcow2/qemu_tools.h"

namespace bulkhead::block::qcow2 {

class DifferentialRig {
 public:
  struct Outcome {
    std::string complaint;  // "" when all opinions go together
    bool opened = false;    // by us
    bool qemu_answered = false;
    bool libqcow_answered = false;
    uint64_t compared_bytes = 0;
  };

  // Makes the images that are spoiled.
  DifferentialRig();
  size_t kinds() const { return images_.size(); }

  // Image number `seed` % kinds(), with up to three fields changed (none when
  // seed < kinds()).
  Outcome Judge(uint64_t seed);

 private:
  struct Original {
    std::string name;
    std::string bytes;
  };
  static void Spoil(std::string* image, std::mt19937_64* random);

  ImageDirectory directory_;
  std::vector<Original> images_;
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_DIFFERENTIAL_RIG_H_
