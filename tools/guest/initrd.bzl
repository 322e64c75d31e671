"""guest_initrd: an initrd for test guests, from what ./bazelw unpacked.

    guest_initrd(name = "initrd", modules = ["sd_mod"], programs = ["mke2fs"],
                 binaries = ["//x:static_tool"], scripts = [":some_scripts"])

The guest's /init is tools/guest/init. When ./bazelw has not run, the file is
empty and whoever boots it says so.
"""

def _initrd_impl(ctx):
    out = ctx.actions.declare_file(ctx.label.name + ".cpio")
    busybox = [f for f in ctx.files._tree if f.path.endswith("guest/bin/busybox")]
    if not busybox:
        ctx.actions.write(out, "")
        return [DefaultInfo(files = depset([out]))]

    args = ctx.actions.args()
    args.add("--out", out)
    args.add("--tree", busybox[0].path[:-len("/bin/busybox")])
    args.add_all(ctx.attr.modules, before_each = "--module")
    args.add_all(ctx.attr.programs, before_each = "--program")
    args.add_all(ctx.files.binaries, before_each = "--binary")
    args.add_all(ctx.files.scripts, before_each = "--script")
    args.add_all(ctx.files._system, before_each = "--system")
    ctx.actions.run(
        executable = ctx.executable._make_initrd,
        arguments = [args],
        inputs = ctx.files._tree + ctx.files.binaries + ctx.files.scripts +
                 ctx.files._system,
        outputs = [out],
        mnemonic = "Initrd",
        use_default_shell_env = True,
    )
    return [DefaultInfo(
        files = depset([out]),
        runfiles = ctx.runfiles([out]),
    )]

guest_initrd = rule(
    implementation = _initrd_impl,
    attrs = {
        "modules": attr.string_list(doc = "kernel modules, with what they need"),
        "programs": attr.string_list(doc = "programs of the guest tree"),
        "binaries": attr.label_list(
            doc = "static programs of our own, into /bin",
            cfg = "target",
        ),
        "scripts": attr.label_list(
            doc = "test scripts, run by bulkhead.script=NAME",
            allow_files = [".sh"],
        ),
        "_system": attr.label_list(
            default = [
                "//tools/guest:init",
                "//tools/guest:lib.sh",
                "//tools/guest:check.sh",
            ],
            allow_files = True,
        ),
        "_tree": attr.label(default = "@runtime//:guest_tree"),
        "_make_initrd": attr.label(
            default = "//tools/guest:make_initrd",
            allow_single_file = True,
            cfg = "exec",
            executable = True,
        ),
    },
)
