#include "services/block/qcow2/decoder.h"

#include <errno.h>
#include <string.h>

#include <algorithm>
#include <bit>

#include "services/block/qcow2/format.h"
#include "services/block/qcow2/gate.h"
#include "services/block/qcow2/libqcow_io.h"

namespace bulkhead::block::qcow2 {
namespace {

// Encrypted clusters are shown to libqcow in pieces of at most this size: it
// keeps the last 128 of them, twice.
constexpr unsigned kMaxAesClusterBits = 14;
constexpr uint64_t kAesCacheClusters = 128;
constexpr uint64_t kAesCacheTables = 64;
constexpr uint64_t kMaxAesDiskBytes = uint64_t{1} << 43;
constexpr size_t kSmallBlocksBytes = 256 << 10;
constexpr size_t kHeaderReadBytes = 512;
constexpr size_t kSignatureMemoryBytes = 16 << 10;

enum class Form : uint8_t { kNone, kCompressed, kEncrypted };

// The start of a user's file.
struct FileStart {
  FileIo& file;
  uint64_t position = 0;

  int64_t ReadAt(uint64_t at, uint8_t* to, size_t bytes) const {
    return ReadBytes(file, to, bytes, at, BeyondEnd::kFails) == 0
               ? static_cast<int64_t>(bytes)
               : -1;
  }
  uint64_t size() const { return kHeaderReadBytes; }
};

uint64_t RoundUp(uint64_t value, uint64_t to) {
  return (value + to - 1) / to * to;
}

unsigned AesBits(const Coding& coding) {
  return std::min(coding.cluster_bits, kMaxAesClusterBits);
}

// The disk as libqcow is told of it: whole clusters.
uint64_t AesDiskBytes(const Coding& coding) {
  return RoundUp(coding.disk_bytes, uint64_t{1} << coding.cluster_bits);
}

uint64_t AesTables(const Coding& coding) {
  const unsigned bits = AesBits(coding);
  const uint64_t per_table = uint64_t{1} << (bits + bits - 3);
  return (AesDiskBytes(coding) + per_table - 1) / per_table;
}

}  // namespace

// What libqcow takes for a file. Offsets are of that file.
class Decoder::MadeUpImage {
 public:
  explicit MadeUpImage(size_t memory_bytes) : gate_(memory_bytes) {}
  ~MadeUpImage() { Close(); }

  // Bytes that libqcow may now read of the user's file, and as what.
  struct Window {
    FileIo* file = nullptr;
    uint64_t host_offset = 0;
    uint64_t bytes = 0;
    uint64_t disk_offset = 0;  // kEncrypted
  };

  int Read(Form form, const Coding& coding, const Window& window,
           uint64_t disk_offset, uint8_t* to) {
    const size_t cluster = size_t{1} << coding.cluster_bits;
    Gate::Entered entered(&gate_);
    for (int attempt = 0;; ++attempt) {
      gate_.ClearNotes();
      window_ = window;
      error_ = 0;
      if (Open(form, coding) &&
          libqcow_file_read_buffer_at_offset(
              file_, to, cluster, static_cast<off64_t>(disk_offset), nullptr) ==
              static_cast<ssize_t>(cluster) &&
          !gate_.inflated_short()) {
        return 0;
      }
      const bool exhausted = gate_.exhausted();
      CloseEntered();
      if (error_ != 0) return error_;
      if (!exhausted) return -EBADMSG;
      // Its caches had filled the gate: once more, with nothing cached.
      if (attempt > 0) return -ENOMEM;
    }
  }

  bool Prepare(const Coding& coding) {
    Gate::Entered entered(&gate_);
    return Open(Form::kEncrypted, coding);
  }
  const Coding* coding() const { return coding_; }

  // For the handle.
  uint64_t position = 0;
  uint64_t size() const { return size_; }
  int64_t ReadAt(uint64_t at, uint8_t* to, size_t bytes);

 private:
  bool Open(Form form, const Coding& coding) {
    if (form_ == form && coding_ == &coding) return true;
    CloseEntered();
    form_ = form;
    coding_ = &coding;
    const bool encrypted = form == Form::kEncrypted;
    bits_ = encrypted ? AesBits(coding) : coding.cluster_bits;
    tables_ = encrypted ? AesTables(coding) : 1;
    tables_at_ = cluster() + RoundUp(tables_ * 8, cluster());
    data_at_ = tables_at_ + tables_ * cluster();
    // An odd place gives a compressed cluster of any length its room: two
    // clusters, less the byte.
    window_at_ = encrypted ? data_at_ : data_at_ + 1;
    size_ = data_at_ + (encrypted ? AesDiskBytes(coding) : 4 * cluster());
    handle_ = LibqcowHandle<MadeUpImage>::Make(this);
    bool opened =
        handle_ != nullptr && libqcow_file_initialize(&file_, nullptr) == 1;
    if (opened && encrypted) {
      opened = libqcow_file_set_keys(file_, coding.key.data(),
                                     coding.key.size(), nullptr) == 1;
    }
    opened = opened && libqcow_file_open_file_io_handle(
                           file_, handle_, LIBQCOW_OPEN_READ, nullptr) == 1;
    if (!opened) form_ = Form::kNone;
    return opened;
  }

  void Close() {
    Gate::Entered entered(&gate_);
    CloseEntered();
  }

  void CloseEntered() {
    if (file_ != nullptr) {
      libqcow_file_close(file_, nullptr);
      libqcow_file_free(&file_, nullptr);
    }
    if (handle_ != nullptr) libbfio_handle_free(&handle_, nullptr);
    file_ = nullptr;
    handle_ = nullptr;
    form_ = Form::kNone;
    coding_ = nullptr;
    gate_.Reset();
  }

  uint64_t cluster() const { return uint64_t{1} << bits_; }

  // ---- The made-up file's contents

  int64_t MakeHeader(uint8_t* to, size_t bytes) const {
    uint8_t whole[kHeaderReadBytes] = {};
    RawHeader header = {};
    header.magic = kMagic;
    header.version = 2;
    header.cluster_bits = bits_;
    header.size = form_ == Form::kEncrypted
                      ? AesDiskBytes(*coding_)
                      : uint64_t{LengthClasses()} << bits_;
    header.crypt_method = form_ == Form::kEncrypted ? kCryptAes : kCryptNone;
    header.l1_size = static_cast<uint32_t>(tables_);
    header.l1_table_offset = cluster();
    memcpy(whole, &header, kVersion2Length);
    memcpy(to, whole, bytes);
    return static_cast<int64_t>(bytes);
  }

  uint64_t L1Entry(uint64_t index) const {
    return index < tables_ ? tables_at_ + index * cluster() : 0;
  }

  // Compressed: cluster n of the made-up disk is one of n + 1 sectors.
  uint64_t L2Entry(uint64_t index) const {
    if (form_ == Form::kEncrypted) return data_at_ + index * cluster();
    if (index >= LengthClasses()) return 0;
    return kCompressed | index << (62 - (bits_ - 8)) | window_at_;
  }
  uint32_t LengthClasses() const { return uint32_t{1} << (bits_ - 8); }

  // `at` counts from the window's place in the made-up file.
  int64_t ReadWindow(uint64_t at, uint8_t* to, size_t bytes) {
    if (window_.file == nullptr) return -1;
    if (form_ == Form::kEncrypted) {
      if (at < window_.disk_offset ||
          at + bytes > window_.disk_offset + window_.bytes) {
        return -1;
      }
      at -= window_.disk_offset;
    }
    const size_t real =
        std::min<uint64_t>(bytes, at < window_.bytes ? window_.bytes - at : 0);
    const int error =
        ReadBytes(*window_.file, to, real, window_.host_offset + at,
                  BeyondEnd::kReadsZeroes);
    if (error != 0) {
      error_ = error;
      return -1;
    }
    memset(to + real, 0, bytes - real);
    return static_cast<int64_t>(bytes);
  }

  Gate gate_;
  Form form_ = Form::kNone;
  const Coding* coding_ = nullptr;
  unsigned bits_ = 0;
  uint64_t tables_ = 0;
  uint64_t tables_at_ = 0;
  uint64_t data_at_ = 0;
  uint64_t window_at_ = 0;
  uint64_t size_ = 0;
  Window window_;
  int error_ = 0;
  libbfio_handle_t* handle_ = nullptr;
  libqcow_file_t* file_ = nullptr;
};

int64_t Decoder::MadeUpImage::ReadAt(uint64_t at, uint8_t* to, size_t bytes) {
  if (at >= size_ || bytes > size_ - at) return -1;
  if (at == 0 && bytes <= kHeaderReadBytes) return MakeHeader(to, bytes);
  if (at % 8 == 0 && bytes % 8 == 0 && at >= cluster() &&
      at + bytes <= tables_at_) {
    for (uint64_t i = 0; i < bytes; i += 8) {
      StoreBe64(to + i, L1Entry((at + i - cluster()) / 8));
    }
    return static_cast<int64_t>(bytes);
  }
  if (at % 8 == 0 && bytes % 8 == 0 && at >= tables_at_ &&
      at + bytes <= data_at_) {
    for (uint64_t i = 0; i < bytes; i += 8) {
      StoreBe64(to + i, L2Entry((at + i - tables_at_) / 8));
    }
    return static_cast<int64_t>(bytes);
  }
  if (at < window_at_) return -1;
  return ReadWindow(at - window_at_, to, bytes);
}

bool HasQcowSignature(FileIo& file) {
  Gate gate(kSignatureMemoryBytes);
  Gate::Entered entered(&gate);
  FileStart start{file};
  libbfio_handle_t* handle = LibqcowHandle<FileStart>::Make(&start);
  if (handle == nullptr) return false;
  const int found =
      libqcow_check_file_signature_file_io_handle(handle, nullptr);
  libbfio_handle_free(&handle, nullptr);
  return found == 1;
}

Decoder::Decoder(size_t memory_bytes)
    : image_(std::make_unique<MadeUpImage>(memory_bytes)) {}

Decoder::~Decoder() = default;

const Coding* Decoder::coding() const { return image_->coding(); }

// Powers of two from the gate, as many as libqcow can hold at one time: a table
// as read and as kept; compressed bytes of each size, now and before; the
// cluster, now and before.
size_t Decoder::MemoryFor(const Coding& coding) {
  const size_t cluster = size_t{1} << coding.cluster_bits;
  size_t bytes = kSmallBlocksBytes + 14 * cluster;
  if (coding.encrypted) {
    const size_t aes = size_t{1} << AesBits(coding);
    bytes += 2 * std::bit_ceil(AesTables(coding) * 8) +
             (2 * kAesCacheClusters + kAesCacheTables + 16) * aes;
  }
  return bytes;
}

bool Decoder::IsPossible(const Coding& coding) {
  return !coding.encrypted || (coding.disk_bytes <= kMaxAesDiskBytes &&
                               AesTables(coding) * 8 <= kMaxL1Bytes);
}

bool Decoder::Prepare(const Coding& coding) { return image_->Prepare(coding); }

int Decoder::Inflate(const Coding& coding, FileIo& file, uint64_t host_offset,
                     uint64_t compressed_bytes, uint8_t* to) {
  const uint64_t classes = uint64_t{1} << (coding.cluster_bits - 8);
  const uint64_t sectors = std::clamp<uint64_t>(
      (compressed_bytes + kCompressedSectorBytes - 1) / kCompressedSectorBytes,
      1, classes);
  return image_->Read(
      Form::kCompressed, coding,
      {.file = &file, .host_offset = host_offset, .bytes = compressed_bytes},
      (sectors - 1) << coding.cluster_bits, to);
}

int Decoder::Decrypt(const Coding& coding, FileIo& file, uint64_t host_offset,
                     uint64_t disk_offset, uint8_t* to) {
  return image_->Read(Form::kEncrypted, coding,
                      {.file = &file,
                       .host_offset = host_offset,
                       .bytes = uint64_t{1} << coding.cluster_bits,
                       .disk_offset = disk_offset},
                      disk_offset, to);
}

}  // namespace bulkhead::block::qcow2
