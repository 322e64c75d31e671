"""@system: the machine's own libraries, found with pkg-config.

Each row of _LIBRARIES is one cc_library. Nothing is downloaded or built; what
is missing is named together with the command that installs it.
"""

# target name: (pkg-config module, Debian package)
_LIBRARIES = {
    "absl_cleanup": ("absl_cleanup", "libabsl-dev"),
    "absl_core_headers": ("absl_core_headers", "libabsl-dev"),
    "absl_flags": ("absl_flags", "libabsl-dev"),
    "absl_flags_parse": ("absl_flags_parse", "libabsl-dev"),
    "absl_flags_usage": ("absl_flags_usage", "libabsl-dev"),
    "absl_flat_hash_map": ("absl_flat_hash_map", "libabsl-dev"),
    "absl_flat_hash_set": ("absl_flat_hash_set", "libabsl-dev"),
    "absl_function_ref": ("absl_function_ref", "libabsl-dev"),
    "absl_inlined_vector": ("absl_inlined_vector", "libabsl-dev"),
    "absl_span": ("absl_span", "libabsl-dev"),
    "absl_status": ("absl_status", "libabsl-dev"),
    "absl_statusor": ("absl_statusor", "libabsl-dev"),
    "absl_str_format": ("absl_str_format", "libabsl-dev"),
    "absl_strings": ("absl_strings", "libabsl-dev"),
    "absl_synchronization": ("absl_synchronization", "libabsl-dev"),
    "absl_time": ("absl_time", "libabsl-dev"),
    "benchmark": ("benchmark", "libbenchmark-dev"),
    "cap_ng": ("libcap-ng", "libcap-ng-dev"),
    "deflate": ("libdeflate", "libdeflate-dev"),
    "gmock": ("gmock", "libgmock-dev"),
    "gtest": ("gtest", "libgtest-dev"),
    "gtest_main": ("gtest_main", "libgtest-dev"),
    "nbd": ("libnbd", "libnbd-dev"),
    "protobuf": ("protobuf", "libprotobuf-dev"),
    "protobuf_lite": ("protobuf-lite", "libprotobuf-dev"),
    "qcow": ("libqcow", "libqcow-dev"),
    "seccomp": ("libseccomp", "libseccomp-dev"),
    "uring": ("liburing", "liburing-dev"),
    "zlib": ("zlib", "zlib1g-dev"),
    "zstd": ("libzstd", "libzstd-dev"),
}

# Libraries that are headers only and bring no pkg-config module everywhere.
_HEADERS = {
    "json": ("/usr/include/nlohmann/json.hpp", "nlohmann-json3-dev"),
}

# A program that links a lite and a full message library must not end up with
# two shared copies of the same runtime, so both are taken from the archives.
# libnbd's archive is linked without the TLS and XML libraries that its shared
# one brings along (services/block/nbd/no_tls.cc). Debian 12's shared liburing
# does not export what its header declares (io_uring_register_restrictions).
_ARCHIVE_ONLY = ["protobuf", "protobuf-lite", "nbd", "uring"]

# What libqcow calls in place of these is services/block/qcow2/gate.cc: memory
# that is bounded and taken before the lock-down, and an inflate that tells how
# much it wrote.
_QCOW_GATED = [
    "malloc",
    "calloc",
    "realloc",
    "free",
    "inflateInit2_",
    "inflate",
    "inflateEnd",
]

def _missing(packages):
    fail("\n\nmissing system packages; run ./bazelw, or:\n  sudo apt-get install " +
         " ".join(packages) + "\n")

def _linkopt(flag):
    name = flag[len("-l"):]
    return "-l:lib%s.a" % name if name in _ARCHIVE_ONLY else flag

def _query(ctx, pkg_config, module):
    """The defines and linkopts of a module, or None when it is absent."""
    result = ctx.execute([pkg_config, "--static", "--cflags", "--libs", module])
    if result.return_code != 0:
        return None
    defines = []
    linkopts = []
    for flag in result.stdout.strip().split(" "):
        if module == "libnbd" and flag.startswith("-l") and flag != "-lnbd":
            continue
        if flag.startswith("-D"):
            defines.append(flag[2:])
        elif flag.startswith("-l"):
            linkopts.append(_linkopt(flag))
        elif flag.startswith("-Wl,") or flag == "-pthread":
            linkopts.append(flag)
    return struct(defines = defines, linkopts = linkopts)

def _gated_qcow(ctx, pkg_config):
    """A copy of libqcow.a whose calls in _QCOW_GATED go to bulkhead_qcow_*."""
    libdir = ctx.execute([pkg_config, "--variable=libdir", "libqcow"])
    objcopy = ctx.which("objcopy")
    if not objcopy:
        _missing(["binutils"])
    arguments = [objcopy]
    for symbol in _QCOW_GATED:
        arguments += ["--redefine-sym", "%s=bulkhead_qcow_%s" % (symbol, symbol)]
    archive = libdir.stdout.strip() + "/libqcow.a"
    result = ctx.execute(arguments + [archive, "libgated_qcow.a"])
    if result.return_code != 0:
        fail("objcopy of %s: %s" % (archive, result.stderr))
    return "cc_import(name = \"gated_qcow\", static_library = \"libgated_qcow.a\")"

def _system_libs_impl(ctx):
    pkg_config = ctx.which("pkg-config")
    if not pkg_config:
        _missing(["pkg-config"])

    missing = []
    build = ["package(default_visibility = [\"//visibility:public\"])"]
    for name, (module, package) in _LIBRARIES.items():
        flags = _query(ctx, pkg_config, module)
        if not flags:
            if package not in missing:
                missing.append(package)
            continue
        if name == "qcow":
            build.append(_gated_qcow(ctx, pkg_config))
        build.append("cc_library(name = %r, defines = %r, linkopts = %r)" %
                     (name, flags.defines, flags.linkopts))
    for name, (header, package) in _HEADERS.items():
        if not ctx.path(header).exists:
            missing.append(package)
            continue
        build.append("cc_library(name = %r)" % name)

    protoc = ctx.which("protoc")
    if protoc:
        ctx.symlink(protoc, "protoc")
        build.append("exports_files([\"protoc\"])")
    else:
        missing.append("protobuf-compiler")
    if missing:
        _missing(missing)
    ctx.file("BUILD.bazel", "\n".join(build) + "\n")

system_libs = repository_rule(
    implementation = _system_libs_impl,
    environ = ["PATH", "PKG_CONFIG_PATH"],
    local = True,
)
