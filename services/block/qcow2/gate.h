// Gate stands between libqcow and the process: libqcow's calls of malloc and
// zlib come here (build/system_libs.bzl renames them in a copy of its archive).
//
// While a Gate is entered, what libqcow allocates on this thread comes from the
// gate's own memory, taken once: libqcow can use no more than that, asks the
// kernel for nothing, and a buffer that it leaves unfilled never shows what
// else the process had in its heap. What it asks zlib to inflate, libdeflate
// inflates where it can, which is two to three times as fast; an inflate that
// stops short of filling its buffer is noted, as libqcow does not tell.
//
// TRUST    Sizes come from libqcow, which works on hostile bytes.
// ERRORS   No memory left: libqcow gets nullptr, exhausted() says so.
// THREADS  One at a time per Gate. Outside any gate libqcow gets no memory.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_GATE_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_GATE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

struct libdeflate_decompressor;

namespace bulkhead::block::qcow2 {

class Gate {
 public:
  explicit Gate(size_t bytes);
  ~Gate();
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  // From construction to destruction, this thread's libqcow is `gate`'s.
  class Entered {
   public:
    explicit Entered(Gate* gate);
    ~Entered();
    Entered(const Entered&) = delete;
    Entered& operator=(const Entered&) = delete;

   private:
    Gate* const before_;
  };
  static Gate* Current();

  // nullptr: there is no room.
  void* Allocate(size_t bytes);
  void Free(void* block);
  static size_t SizeOf(const void* block);
  // Forgets every block: nothing that libqcow made may be used any more.
  void Reset();

  // All of `to` from one whole stream. false: zlib may know better.
  bool InflateFast(const uint8_t* from, size_t from_bytes, uint8_t* to,
                   size_t to_bytes);

  bool exhausted() const { return exhausted_; }
  bool inflated_short() const { return inflated_short_; }
  void set_inflated_short() { inflated_short_ = true; }
  void ClearNotes() { exhausted_ = inflated_short_ = false; }

 private:
  // Blocks are powers of two, each with a header before it.
  static constexpr size_t kClasses = 40;
  struct Spare {
    Spare* next;
  };

  const size_t bytes_;
  std::unique_ptr<uint8_t[]> memory_;
  libdeflate_decompressor* const decompressor_;
  size_t used_ = 0;
  std::array<Spare*, kClasses> free_ = {};
  bool exhausted_ = false;
  bool inflated_short_ = false;
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_GATE_H_
