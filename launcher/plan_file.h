// The plan that `vm` leaves in an fd for the launcher.
//
// TRUST    `vm`'s, who was the same process before.
// ERRORS   False: it is no plan.
// THREADS  One thread.

#ifndef BULKHEAD_LAUNCHER_PLAN_FILE_H_
#define BULKHEAD_LAUNCHER_PLAN_FILE_H_

#include "proto/launch.pb.h"

namespace bulkhead::launcher {

bool ReadPlan(int fd, LaunchPlan* plan);

// When all is over.
void RemoveLeftovers(const LaunchPlan& plan);

}  // namespace bulkhead::launcher

#endif  // BULKHEAD_LAUNCHER_PLAN_FILE_H_
