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

def _function(name):
    return "".join([word.capitalize() for word in name.split("_")])

def _text_rule(name, out, lines, visibility = None):
    native.genrule(
        name = name,
        outs = [out],
        cmd = "cat > $@ <<'END_OF_FILE'\n" + "\n".join(lines) + "\nEND_OF_FILE",
        visibility = visibility,
    )

def policy_registry(policies, visibility):
    """What knows all policies there are.

      :names     "policy/names.h": their names
      :registry  "policy/registry.h": all of them, compiled
      :texts     "policy/texts.h": all of them as they are locked, with every why

    Args:
      policies: names of policy() targets of this folder.
      visibility: of the three libraries.
    """
    _text_rule("names_header", "names.h", [
        "// The policies there are. Made by policy.bzl. Do not edit.",
        "",
        "#ifndef BULKHEAD_POLICY_NAMES_H_",
        "#define BULKHEAD_POLICY_NAMES_H_",
        "",
        "namespace bulkhead::policy {",
        "",
        "inline constexpr const char* kPolicyNames[] = {",
    ] + ["    \"%s\"," % name for name in policies] + [
        "};",
        "",
        "}  // namespace bulkhead::policy",
        "",
        "#endif  // BULKHEAD_POLICY_NAMES_H_",
    ])
    native.cc_library(
        name = "names",
        hdrs = ["names.h"],
        visibility = visibility,
    )
    _text_rule(
        "registry_source",
        "registry.cc",
        [
            "// Made by policy.bzl. Do not edit.",
            "",
            "#include \"policy/registry.h\"",
            "",
        ] + ["#include \"policy/%s.h\"" % name for name in policies] + [
            "",
            "namespace bulkhead::policy {",
            "",
            "std::vector<const sandbox::CompiledPolicy*> AllPolicies() {",
            "  return {",
        ] + ["      &%s()," % _function(name) for name in policies] + [
            "  };",
            "}",
            "",
            "const sandbox::CompiledPolicy* FindPolicy(const std::string& name) {",
            "  for (const sandbox::CompiledPolicy* policy : AllPolicies()) {",
            "    if (name == policy->name) return policy;",
            "  }",
            "  return nullptr;",
            "}",
            "",
            "}  // namespace bulkhead::policy",
        ],
    )
    native.cc_library(
        name = "registry",
        srcs = ["registry.cc"],
        hdrs = ["registry.h"],
        visibility = visibility,
        deps = ["//sandbox:compiled_policy"] + [":" + name for name in policies],
    )
    native.genrule(
        name = "texts_source",
        srcs = [":%s_expanded" % name for name in policies],
        outs = ["texts.cc"],
        cmd = """{
          echo '// Made by policy.bzl. Do not edit.'
          echo
          echo '#include "policy/texts.h"'
          echo
          echo 'namespace bulkhead::policy {'
          echo
          echo 'const char* PolicyText(const std::string& name) {'
          for file in $(SRCS); do
            echo "  if (name == \\"$$(basename $$file .expanded)\\") {"
            echo '    return R"POLICY('
            cat $$file
            echo ')POLICY";'
            echo '  }'
          done
          echo '  return nullptr;'
          echo '}'
          echo
          echo '}  // namespace bulkhead::policy'
        } > $@""",
    )
    native.cc_library(
        name = "texts",
        srcs = ["texts.cc"],
        hdrs = ["texts.h"],
        visibility = visibility,
    )
