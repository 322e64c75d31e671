"""service_binary: the program of a jailed process.

It is a static position-independent executable, because it is executed from a
file descriptor inside an empty root, it ends as its policy allows when it is
broken (//sandbox:last_words), and it looks up no names (//sandbox:no_lookups). Under a sanitizer, whose runtime cannot be
linked so, it is an ordinary program.
"""

def service_binary(name, linkopts = [], deps = [], **kwargs):
    native.cc_binary(
        name = name,
        deps = deps + [
            "//sandbox:last_words",
            "//sandbox:no_lookups",
        ],
        linkstatic = True,
        linkopts = linkopts + select({
            "//build:sanitized": [],
            # //sandbox:last_words defines abort(); newer C libraries pull
            # their own in with what they keep beside it. Ours comes first.
            "//conditions:default": ["-static-pie", "-Wl,-z,muldefs"],
        }),
        **kwargs
    )
