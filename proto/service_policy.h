// Which policy a service runs under: its model's, or, when a disk needs system
// calls that others do not, one with those calls added. Launcher and service
// both ask here, so that they agree.
//
// TRUST    The configuration is the launcher's.
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_PROTO_SERVICE_POLICY_H_
#define BULKHEAD_PROTO_SERVICE_POLICY_H_

#include "proto/service_config.pb.h"

namespace bulkhead {

enum class PolicyVariant {
  kPlain,
  kNbd,    // MODEL_nbd: sockets of an NBD server
  kUring,  // MODEL_uring: io_uring
};

inline PolicyVariant VariantOf(const ServiceConfig& config) {
  PolicyVariant variant = PolicyVariant::kPlain;
  for (const BackendConfig& backend : config.backends()) {
    if (backend.has_nbd()) return PolicyVariant::kNbd;
    if (backend.engine() == IO_URING) variant = PolicyVariant::kUring;
  }
  return variant;
}

// What is appended to the model's name.
inline const char* SuffixOf(PolicyVariant variant) {
  switch (variant) {
    case PolicyVariant::kNbd:
      return "_nbd";
    case PolicyVariant::kUring:
      return "_uring";
    case PolicyVariant::kPlain:
      break;
  }
  return "";
}

}  // namespace bulkhead

#endif  // BULKHEAD_PROTO_SERVICE_POLICY_H_
