"""policy: one process kind's policy, compiled.

    policy(name = "shim")

reads shim.textproto (and `includes`) and makes

  :shim           cc_library with "<folder>/shim.h": bulkhead::policy::Shim()
  shim.listing    both filters, disassembled
  shim.expanded   the policy with its includes, as it is compiled and locked
"""

def _compile_impl(ctx):
    name = ctx.file.src.basename[:-len(".textproto")]
    header = ctx.actions.declare_file(name + ".h")
    source = ctx.actions.declare_file(name + ".cc")
    listing = ctx.actions.declare_file(name + ".listing")
    expanded = ctx.actions.declare_file(name + ".expanded")
    outputs = [header, source, listing, expanded]
    ctx.actions.run(
        executable = ctx.executable._compiler,
        arguments = [
            ctx.file.src.path,
            ctx.label.package + "/" + name + ".h",
        ] + [out.path for out in outputs],
        inputs = [ctx.file.src] + ctx.files.includes,
        outputs = outputs,
        mnemonic = "CompilePolicy",
        progress_message = "Compiling policy %s" % name,
    )
    return [
        DefaultInfo(files = depset(outputs)),
        OutputGroupInfo(
            headers = depset([header]),
            sources = depset([source]),
            expanded = depset([expanded]),
            listing = depset([listing]),
        ),
    ]

_compile = rule(
    implementation = _compile_impl,
    attrs = {
        "src": attr.label(allow_single_file = [".textproto"], mandatory = True),
        "includes": attr.label_list(allow_files = [".textproto"]),
        "_compiler": attr.label(
            default = "//policy:compiler",
            cfg = "exec",
            executable = True,
        ),
    },
)

def policy(name, includes = [], visibility = None, testonly = False):
    _compile(
        name = name + "_compiled",
        src = name + ".textproto",
        includes = includes,
        testonly = testonly,
        visibility = visibility,
    )
    for group in ["headers", "sources", "expanded", "listing"]:
        native.filegroup(
            name = "%s_%s" % (name, group),
            srcs = [name + "_compiled"],
            output_group = group,
            testonly = testonly,
            visibility = visibility,
        )
    native.cc_library(
        name = name,
        srcs = [name + "_sources"],
        hdrs = [name + "_headers"],
        testonly = testonly,
        visibility = visibility,
        deps = ["//sandbox:compiled_policy"],
    )
