// SHA-256 (FIPS 180-4), for naming a filter's bytes. Not for secrets.
//
// TRUST    Not for secrets: its time depends on the length.
// ERRORS   None.
// THREADS  One thread for each object.

#ifndef BULKHEAD_POLICY_SHA256_H_
#define BULKHEAD_POLICY_SHA256_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace bulkhead::policy {

class Sha256 {
 public:
  void Add(const void* data, size_t size);
  // Ends the message.
  std::string Hex();

 private:
  void Block(const uint8_t* block);

  uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint8_t pending_[64] = {};
  size_t pending_size_ = 0;
  uint64_t total_ = 0;
};

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_SHA256_H_
