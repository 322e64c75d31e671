"""Protocol buffers with the system's protoc.

    cc_proto_lite(name = "frame", srcs = ["frame.proto"], deps = [...])
    cc_proto_full(name = "vm_spec", srcs = ["vm_spec.proto"], deps = [...])

The name is a cc_library; its header is "<folder>/<file>.pb.h". An import names
the file from the repository's root ("proto/frame.proto") and its target is a
dep. A .proto belongs to one target: lite for what a service or the shim speaks,
full (text format, reflection) for what people write and read. A full message
cannot contain a lite one; one program may link both kinds.
"""

ProtoFiles = provider(
    doc = "The .proto files that a target and its deps are made of.",
    fields = ["transitive"],
)

def _proto_gen_impl(ctx):
    transitive = depset(
        ctx.files.srcs,
        transitive = [dep[ProtoFiles].transitive for dep in ctx.attr.deps],
    )
    headers = []
    sources = []
    for src in ctx.files.srcs:
        stem = src.basename[:-len(".proto")]
        headers.append(ctx.actions.declare_file(stem + ".pb.h"))
        sources.append(ctx.actions.declare_file(stem + ".pb.cc"))

    args = ctx.actions.args()
    args.add("--cpp_out=%s%s" % ("lite:" if ctx.attr.lite else "", ctx.bin_dir.path))
    args.add("-I.")
    args.add_all(ctx.files.srcs)
    ctx.actions.run(
        executable = ctx.executable._protoc,
        arguments = [args],
        inputs = transitive,
        outputs = headers + sources,
        mnemonic = "Protoc",
    )
    return [
        DefaultInfo(files = depset(headers + sources)),
        OutputGroupInfo(headers = depset(headers), sources = depset(sources)),
        ProtoFiles(transitive = transitive),
    ]

_proto_gen = rule(
    implementation = _proto_gen_impl,
    attrs = {
        "srcs": attr.label_list(allow_files = [".proto"], mandatory = True),
        "deps": attr.label_list(providers = [ProtoFiles]),
        "lite": attr.bool(mandatory = True),
        "_protoc": attr.label(
            default = "@system//:protoc",
            allow_single_file = True,
            cfg = "exec",
            executable = True,
        ),
    },
)

def _gen_label(dep):
    """//proto -> //proto:proto_protoc, :frame -> :frame_protoc."""
    if ":" not in dep and dep.startswith("//"):
        dep = dep + ":" + dep.split("/")[-1]
    return dep + "_protoc"

def _cc_proto(name, srcs, deps, lite, visibility, **kwargs):
    gen = name + "_protoc"
    _proto_gen(
        name = gen,
        srcs = srcs,
        lite = lite,
        visibility = visibility,
        deps = [_gen_label(dep) for dep in deps],
    )
    native.filegroup(name = name + "_pb_h", srcs = [gen], output_group = "headers")
    native.filegroup(name = name + "_pb_cc", srcs = [gen], output_group = "sources")
    native.cc_library(
        name = name,
        srcs = [name + "_pb_cc"],
        hdrs = [name + "_pb_h"],
        visibility = visibility,
        deps = deps + ["@system//:protobuf_lite" if lite else "@system//:protobuf"],
        **kwargs
    )

def cc_proto_lite(name, srcs, deps = [], visibility = None, **kwargs):
    _cc_proto(name, srcs, deps, True, visibility, **kwargs)

def cc_proto_full(name, srcs, deps = [], visibility = None, **kwargs):
    _cc_proto(name, srcs, deps, False, visibility, **kwargs)
