// ShimMain is a shim program's main. There is one program per front end, so
// that what stands between QEMU and a service knows one protocol of QEMU's.
//
// TRUST    As Shim.
// ERRORS   The exit status; a line in the log says why.
// THREADS  One thread.

#ifndef BULKHEAD_PROXY_SHIM_MAIN_H_
#define BULKHEAD_PROXY_SHIM_MAIN_H_

#include "proxy/device_port.h"
#include "proxy/front_end.h"

namespace bulkhead::proxy {

// What it makes lives as long as the process, as both arguments do.
using MakeFrontEnd = FrontEnd& (*)(int qemu_socket, DevicePort& device);

int ShimMain(MakeFrontEnd make_front_end);

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_SHIM_MAIN_H_
