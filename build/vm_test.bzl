"""vm_test: a cc_test that starts `vm`, with the real QEMU and the jailed programs.

Jails cannot be made in Bazel's sandbox, and the machine's memory and CPUs are
shared with the VM: such tests run locally, and are tagged "vm".
"""

def vm_test(name, data = [], deps = [], tags = [], **kwargs):
    """Defines the test.

    Args:
      name: the target; its source is NAME.cc.
      data: what it needs besides //launcher:vm.
      deps: what it needs besides tests/support's process and own_qemu, and gtest.
      tags: more tags.
      **kwargs: for cc_test.
    """
    native.cc_test(
        name = name,
        srcs = [name + ".cc"],
        data = ["//launcher:vm"] + data,
        tags = tags + [
            "local",
            "no-sandbox",
            "vm",
        ],
        deps = deps + [
            "//tests/support:own_qemu",
            "//tests/support:process",
            "@system//:gtest",
            "@system//:gtest_main",
        ],
        **kwargs
    )
