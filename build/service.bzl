"""service_binary: the program of a jailed process.

It is a static position-independent executable, because it is executed from a
file descriptor inside an empty root, and it ends as its policy allows when it is
broken (//sandbox:last_words). Under a sanitizer, whose runtime cannot be linked
so, it is an ordinary program. What needs a library that looks up names links
//sandbox:no_lookups with it.
"""

def service_binary(name, linkopts = [], deps = [], **kwargs):
    native.cc_binary(
        name = name,
        deps = deps + ["//sandbox:last_words"],
        linkstatic = True,
        linkopts = linkopts + select({
            "//build:sanitized": [],
            # //sandbox:last_words defines abort(); newer C libraries pull
            # their own in with what they keep beside it. Ours comes first.
            "//conditions:default": ["-static-pie", "-Wl,-z,muldefs"],
        }),
        **kwargs
    )
