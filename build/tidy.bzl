"""An aspect that runs clang-tidy over our own C++ sources, tests left out.

    bazel build --config=tidy //services/...
"""

def _tidy_impl(target, ctx):
    if CcInfo not in target or target.label.workspace_name:
        return []
    if ctx.rule.kind == "cc_test" or "no-tidy" in ctx.rule.attr.tags:
        return []
    sources = [
        src
        for src in getattr(ctx.rule.files, "srcs", [])
        if src.is_source and src.extension == "cc"
    ]
    compile = target[CcInfo].compilation_context
    if CcInfo in target and hasattr(ctx.rule.attr, "deps"):
        compile = cc_common.merge_cc_infos(
            cc_infos = [target[CcInfo]] +
                       [dep[CcInfo] for dep in ctx.rule.attr.deps if CcInfo in dep],
        ).compilation_context
    outs = [_check(ctx, src, compile) for src in sources]
    return [OutputGroupInfo(tidy = depset(outs))]

def _check(ctx, src, compile):
    out = ctx.actions.declare_file("%s.%s.tidy" % (ctx.label.name, src.basename))
    args = ctx.actions.args()
    args.add(out)
    args.add("--quiet")
    args.add(src)
    args.add_all(["--", "-std=c++20", "-xc++", "-Wall", "-Wextra"])
    args.add_all(compile.quote_includes, before_each = "-iquote")
    args.add_all(compile.system_includes, before_each = "-isystem")
    args.add_all(compile.includes, before_each = "-I")
    args.add_all(compile.defines, format_each = "-D%s")
    args.add_all(getattr(ctx.rule.attr, "copts", []))
    ctx.actions.run_shell(
        command = "out=$1; shift; clang-tidy \"$@\" >$out.log 2>&1 || " +
                  "{ cat $out.log; exit 1; }; touch $out",
        arguments = [args],
        inputs = depset(
            [src, ctx.file._config] + getattr(ctx.rule.files, "srcs", []),
            transitive = [compile.headers],
        ),
        outputs = [out],
        mnemonic = "ClangTidy",
        progress_message = "clang-tidy %s" % src.short_path,
        use_default_shell_env = True,
    )
    return out

tidy = aspect(
    implementation = _tidy_impl,
    attrs = {
        "_config": attr.label(
            default = "//:.clang-tidy",
            allow_single_file = True,
        ),
    },
)
