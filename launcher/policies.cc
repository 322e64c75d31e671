#include "launcher/policies.h"

#include "policy/image_tool.h"
#include "policy/lsi53c895a.h"
#include "policy/qemu.h"
#include "policy/shim.h"

namespace bulkhead::launcher {

const sandbox::CompiledPolicy* PolicyOf(const std::string& name) {
  for (const sandbox::CompiledPolicy* policy :
       {&policy::Lsi53c895a(), &policy::Shim(), &policy::Qemu(),
        &policy::ImageTool()}) {
    if (name == policy->name) return policy;
  }
  return nullptr;
}

}  // namespace bulkhead::launcher
