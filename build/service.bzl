"""service_binary: the program of a jailed process.

It is a static position-independent executable, because it is executed from a
file descriptor inside an empty root. Under a sanitizer, whose runtime cannot be
linked so, it is an ordinary program.
"""

def service_binary(name, linkopts = [], **kwargs):
    native.cc_binary(
        name = name,
        linkstatic = True,
        linkopts = linkopts + select({
            "//build:sanitized": [],
            "//conditions:default": ["-static-pie"],
        }),
        **kwargs
    )
