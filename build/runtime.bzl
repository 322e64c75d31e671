"""@runtime: what ./bazelw set up outside the repository.

    @runtime//:paths         where QEMU, its firmware and the guest's kernel lie, as
                             key=value lines (tools/setup/README.md)
    @runtime//:guest_tree    the guest's modules and programs, for initrds

Until ./bazelw has run, paths says setup=missing and the tree is empty; everything
still builds, and what needs a VM says what to run.
"""

def _cache(ctx):
    env = ctx.os.environ
    base = env.get("XDG_CACHE_HOME", "")
    if not base:
        base = env.get("HOME", "/nonexistent") + "/.cache"
    return ctx.path(base + "/bulkhead")

def _value(ctx, paths, key):
    result = ctx.execute(["sed", "-n", "s/^%s=//p" % key, str(paths)])
    return result.stdout.strip()

def _runtime_impl(ctx):
    paths = _cache(ctx).get_child("paths")
    tree = ""
    if paths.exists:
        ctx.symlink(paths, "paths")
        tree = _value(ctx, paths, "guest_tree")
    else:
        ctx.file("paths", "setup=missing\n")
    if tree and ctx.path(tree).exists:
        ctx.symlink(tree, "guest")
    ctx.file("BUILD.bazel", """
package(default_visibility = ["//visibility:public"])

exports_files(["paths"])

filegroup(
    name = "guest_tree",
    srcs = glob(["guest/**"]),
)
""")

runtime = repository_rule(
    implementation = _runtime_impl,
    environ = ["HOME", "XDG_CACHE_HOME"],
    local = True,
)
