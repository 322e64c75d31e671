#include "sandbox/symbols.h"

#include <cxxabi.h>
#include <elf.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace bulkhead::sandbox {
namespace {

// The file's bytes; Get copies out what is wholly inside.
class File {
 public:
  explicit File(int fd) {
    struct stat status = {};
    if (fstat(fd, &status) != 0 || status.st_size <= 0) return;
    void* data = mmap(nullptr, status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) return;
    data_ = static_cast<const char*>(data);
    size_ = status.st_size;
  }
  ~File() {
    if (data_ != nullptr) munmap(const_cast<char*>(data_), size_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  template <typename T>
  bool Get(uint64_t offset, T* value) const {
    if (size_ < sizeof(T) || offset > size_ - sizeof(T)) return false;
    std::memcpy(value, data_ + offset, sizeof(T));
    return true;
  }
  std::string String(uint64_t offset) const {
    if (offset >= size_) return "";
    return std::string(data_ + offset, strnlen(data_ + offset, size_ - offset));
  }

 private:
  const char* data_ = nullptr;
  uint64_t size_ = 0;
};

// The address that the loader gives to a byte of the file.
bool AddressOf(const File& file, const Elf64_Ehdr& head, uint64_t file_offset,
               uint64_t* address) {
  for (unsigned i = 0; i < head.e_phnum; ++i) {
    Elf64_Phdr part;
    if (!file.Get(head.e_phoff + i * sizeof(part), &part)) return false;
    if (part.p_type == PT_LOAD && file_offset >= part.p_offset &&
        file_offset - part.p_offset < part.p_filesz) {
      *address = file_offset - part.p_offset + part.p_vaddr;
      return true;
    }
  }
  return false;
}

std::string Demangled(const std::string& name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  const std::string result = status == 0 ? text : name;
  std::free(text);
  return result;
}

// The symbol of a table that covers `address`.
std::string Find(const File& file, const Elf64_Shdr& table,
                 const Elf64_Shdr& names, uint64_t address) {
  for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= table.sh_size;
       at += sizeof(Elf64_Sym)) {
    Elf64_Sym symbol;
    if (!file.Get(table.sh_offset + at, &symbol)) return "";
    if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC ||
        address < symbol.st_value ||
        address - symbol.st_value >= symbol.st_size) {
      continue;
    }
    return absl::StrCat(
        Demangled(file.String(names.sh_offset + symbol.st_name)), "+0x",
        absl::Hex(address - symbol.st_value));
  }
  return "";
}

}  // namespace

std::string Symbol(int fd, uint64_t file_offset) {
  const File file(fd);
  Elf64_Ehdr head;
  uint64_t address = 0;
  if (!file.Get(0, &head) || std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
      head.e_ident[EI_CLASS] != ELFCLASS64 ||
      !AddressOf(file, head, file_offset, &address)) {
    return "";
  }
  std::string name;
  for (unsigned i = 0; i < head.e_shnum && name.empty(); ++i) {
    Elf64_Shdr table;
    Elf64_Shdr names;
    if (file.Get(head.e_shoff + i * sizeof(table), &table) &&
        (table.sh_type == SHT_SYMTAB || table.sh_type == SHT_DYNSYM) &&
        file.Get(head.e_shoff + table.sh_link * sizeof(names), &names)) {
      name = Find(file, table, names, address);
    }
  }
  return name;
}

}  // namespace bulkhead::sandbox
