#include "sandbox/symbols.h"

#include <cxxabi.h>
#include <elf.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"

namespace bulkhead::sandbox {
namespace {

constexpr uint64_t kLargestTable = 64 << 20;

// The file's bytes, by the one call that the console's policy has for them.
class File {
 public:
  explicit File(int fd) : fd_(fd) {}

  template <typename T>
  bool Get(uint64_t offset, T* value) const {
    return pread(fd_, value, sizeof(T), static_cast<off_t>(offset)) ==
           sizeof(T);
  }
  // As many of `values` as there are.
  template <typename T>
  size_t GetMany(uint64_t offset, std::vector<T>* values) const {
    const ssize_t size = pread(fd_, values->data(), values->size() * sizeof(T),
                               static_cast<off_t>(offset));
    return size <= 0 ? 0 : size / sizeof(T);
  }
  std::string String(uint64_t offset) const {
    char text[512] = {};
    const ssize_t size =
        pread(fd_, text, sizeof(text) - 1, static_cast<off_t>(offset));
    return size <= 0 ? "" : text;
  }

 private:
  const int fd_;
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
  std::vector<Elf64_Sym> symbols(4096);
  uint64_t at = 0;
  const uint64_t size = std::min(table.sh_size, kLargestTable);
  while (at + sizeof(Elf64_Sym) <= size) {
    const size_t count = file.GetMany(table.sh_offset + at, &symbols);
    if (count == 0) return "";
    for (size_t i = 0; i < count; ++i, at += sizeof(Elf64_Sym)) {
      const Elf64_Sym& symbol = symbols[i];
      if (at >= size) return "";
      if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC &&
          address >= symbol.st_value &&
          address - symbol.st_value < symbol.st_size) {
        return absl::StrCat(
            Demangled(file.String(names.sh_offset + symbol.st_name)), "+0x",
            absl::Hex(address - symbol.st_value));
      }
    }
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
