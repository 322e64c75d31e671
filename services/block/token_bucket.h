// TokenBucket lets `rate` units a second pass, and `burst` of them at once
// after a pause. It keeps one number: when the bucket will be full again.
//
// TRUST    Costs may be a guest's; they are bounded by what a request can be.
// ERRORS   None.
// THREADS  One.

#ifndef BULKHEAD_SERVICES_BLOCK_TOKEN_BUCKET_H_
#define BULKHEAD_SERVICES_BLOCK_TOKEN_BUCKET_H_

#include <algorithm>
#include <cstdint>

namespace bulkhead::block {

class TokenBucket {
 public:
  // rate 0: no limit. burst 0: a tenth of a second's worth.
  TokenBucket(uint64_t rate_per_second, uint64_t burst)
      : rate_(rate_per_second),
        window_ns_(DurationOf(
            burst > 0 ? burst : std::max<uint64_t>(1, rate_per_second / 10))) {}

  // When a request of `cost` may pass, `now_ns` or later. One that is larger
  // than the burst passes when the bucket is full, and owes the rest.
  uint64_t PassesAt(uint64_t cost, uint64_t now_ns) const {
    if (rate_ == 0) return now_ns;
    const uint64_t needed = std::min(DurationOf(cost), window_ns_);
    const uint64_t at = full_at_ns_ + needed;
    return at > now_ns + window_ns_ ? at - window_ns_ : now_ns;
  }

  void Take(uint64_t cost, uint64_t now_ns) {
    if (rate_ == 0) return;
    full_at_ns_ = std::max(full_at_ns_, now_ns) + DurationOf(cost);
  }

 private:
  uint64_t DurationOf(uint64_t units) const {
    if (rate_ == 0) return 0;
    return static_cast<uint64_t>(static_cast<__uint128_t>(units) *
                                 1'000'000'000 / rate_);
  }

  const uint64_t rate_;
  const uint64_t window_ns_;
  uint64_t full_at_ns_ = 0;
};

}  // namespace bulkhead::block

#endif  // BULKHEAD_SERVICES_BLOCK_TOKEN_BUCKET_H_
