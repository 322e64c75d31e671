// LibqcowOracle reads a whole image with libqcow, mapping and all: for tests
// that ask a third opinion. It is wrong about zero clusters and parents (see
// decoder.h), so ask only about clusters that hold data.
//
// ERRORS   Read: false.
// THREADS  The test's.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_LIBQCOW_ORACLE_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_LIBQCOW_ORACLE_H_

#include <cstdint>
#include <memory>
#include <string>

namespace bulkhead::block::qcow2 {

class LibqcowOracle {
 public:
  explicit LibqcowOracle(std::string image);
  ~LibqcowOracle();

  bool opened() const;
  bool Read(uint64_t offset_bytes, uint64_t length_bytes, std::string* data);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_LIBQCOW_ORACLE_H_
