"""Repositories that Bazel's own WORKSPACE would otherwise download.

Bulkhead needs none of them; Bazel only wants the names and a few symbols to
exist. Where a distribution ships the real ones beside Bazel, those are used.
"""

_SHIPPED = [
    "/usr/share/bazel/rules/{name}",
]

_STUBS = {
    "rules_cc": {
        "cc/defs.bzl": """
cc_library = native.cc_library
cc_binary = native.cc_binary
cc_test = native.cc_test
cc_import = native.cc_import
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
cc_proto_library = native.cc_proto_library
objc_library = native.objc_library
""",
    },
    "rules_java": {
        "java/defs.bzl": """
java_library = native.java_library
java_binary = native.java_binary
java_import = native.java_import
java_runtime = native.java_runtime
java_plugin = native.java_plugin
java_test = native.java_test
java_package_configuration = native.java_package_configuration
java_toolchain = native.java_toolchain
""",
    },
    "remote_coverage_tools": {
        "BUILD.bazel": """
filegroup(
    name = "coverage_report_generator",
    visibility = ["//visibility:public"],
)
""",
    },
}

def _stand_in_impl(ctx):
    for pattern in _SHIPPED:
        shipped = ctx.path(pattern.format(name = ctx.attr.stands_for))
        if shipped.exists:
            for entry in shipped.readdir():
                ctx.symlink(entry, entry.basename)
            return
    ctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % ctx.attr.stands_for)
    ctx.file("BUILD.bazel", "")
    for path, text in _STUBS[ctx.attr.stands_for].items():
        if "/" in path:
            ctx.file(path.rpartition("/")[0] + "/BUILD.bazel", "")
        ctx.file(path, text)

_stand_in = repository_rule(
    implementation = _stand_in_impl,
    attrs = {"stands_for": attr.string(mandatory = True)},
    local = True,
)

def offline():
    for name in _STUBS:
        _stand_in(name = name, stands_for = name)
