// libqcow_io gives libqcow something to read that is no file: its I/O
// callbacks, over an object of ours.
//
// TRUST    libqcow asks for any offset and length; the object answers -1 to
//          what it does not have.
// ERRORS   Make: nullptr when libqcow gets no memory.
// THREADS  As the object.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_LIBQCOW_IO_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_LIBQCOW_IO_H_

#include <libqcow.h>
#include <stdio.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

// libqcow.a brings libbfio, whose header is not installed, and hides what takes
// its handles; these are libbfio's declarations.
extern "C" {
typedef intptr_t libbfio_handle_t;
int libbfio_handle_initialize(
    libbfio_handle_t** handle, intptr_t* io_handle,
    int (*free_io_handle)(intptr_t**, libqcow_error_t**),
    int (*clone_io_handle)(intptr_t**, intptr_t*, libqcow_error_t**),
    int (*open)(intptr_t*, int, libqcow_error_t**),
    int (*close)(intptr_t*, libqcow_error_t**),
    ssize_t (*read)(intptr_t*, uint8_t*, size_t, libqcow_error_t**),
    ssize_t (*write)(intptr_t*, const uint8_t*, size_t, libqcow_error_t**),
    off64_t (*seek_offset)(intptr_t*, off64_t, int, libqcow_error_t**),
    int (*exists)(intptr_t*, libqcow_error_t**),
    int (*is_open)(intptr_t*, libqcow_error_t**),
    int (*get_size)(intptr_t*, size64_t*, libqcow_error_t**), uint8_t flags,
    libqcow_error_t** error);
int libbfio_handle_free(libbfio_handle_t** handle, libqcow_error_t** error);
int libqcow_check_file_signature_file_io_handle(
    libbfio_handle_t* file_io_handle, libqcow_error_t** error);
int libqcow_file_open_file_io_handle(libqcow_file_t* file,
                                     libbfio_handle_t* file_io_handle,
                                     int access_flags, libqcow_error_t** error);
}

namespace bulkhead::block::qcow2 {

// A libbfio handle that reads from `Source`, which has
//   int64_t ReadAt(uint64_t offset, uint8_t* to, size_t bytes)
//   uint64_t size()
//   uint64_t position
template <typename Source>
class LibqcowHandle {
 public:
  static libbfio_handle_t* Make(Source* source) {
    libbfio_handle_t* handle = nullptr;
    libbfio_handle_initialize(&handle, reinterpret_cast<intptr_t*>(source),
                              nullptr, nullptr, OnOpen, OnClose, OnRead,
                              OnWrite, OnSeek, OnExists, OnIsOpen, OnSize,
                              /*flags=*/0, nullptr);
    return handle;
  }

 private:
  static Source* Self(intptr_t* handle) {
    return reinterpret_cast<Source*>(handle);
  }
  static int OnOpen(intptr_t*, int, libqcow_error_t**) { return 1; }
  static int OnClose(intptr_t*, libqcow_error_t**) { return 0; }
  static int OnExists(intptr_t*, libqcow_error_t**) { return 1; }
  static int OnIsOpen(intptr_t*, libqcow_error_t**) { return 1; }
  static ssize_t OnWrite(intptr_t*, const uint8_t*, size_t, libqcow_error_t**) {
    return -1;
  }
  static ssize_t OnRead(intptr_t* handle, uint8_t* to, size_t bytes,
                        libqcow_error_t**) {
    Source* self = Self(handle);
    const int64_t done = self->ReadAt(self->position, to, bytes);
    if (done > 0) self->position += static_cast<uint64_t>(done);
    return static_cast<ssize_t>(done);
  }
  static off64_t OnSeek(intptr_t* handle, off64_t offset, int whence,
                        libqcow_error_t**) {
    if (whence != SEEK_SET || offset < 0) return -1;
    Self(handle)->position = static_cast<uint64_t>(offset);
    return offset;
  }
  static int OnSize(intptr_t* handle, size64_t* size, libqcow_error_t**) {
    *size = Self(handle)->size();
    return 1;
  }
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_LIBQCOW_IO_H_
