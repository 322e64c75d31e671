"""fuzz_test: one LLVMFuzzerTestOneInput, run in two ways.

    fuzz_test(name = "frame_fuzz", srcs = ["frame_fuzz.cc"], deps = [":frame"],
              corpus = "testdata/frame")

As an ordinary test it replays the corpus and a fixed set of inputs derived from
it. Under --config=fuzz it is a libFuzzer program that looks for new ones.
"""

def fuzz_test(
        name,
        srcs,
        deps = [],
        corpus = None,
        seconds = 30,
        max_len = 4096,
        data = [],
        tags = [],
        linkopts = [],
        **kwargs):
    """Defines the test.

    Args:
      name: the target.
      srcs: the file with LLVMFuzzerTestOneInput.
      deps: what it drives.
      corpus: a folder of seed inputs, one file each, below the package.
      seconds: how long `bazel test --config=fuzz` searches.
      max_len: the longest input, in bytes.
      data: other files that the test reads.
      tags: more tags.
      linkopts: more link options.
      **kwargs: for cc_test.
    """
    seeds = native.glob([corpus + "/**"]) if corpus else []
    folder = ["%s/%s" % (native.package_name(), corpus)] if seeds else []
    native.cc_test(
        name = name,
        srcs = srcs,
        data = data + seeds,
        args = ["-max_len=%d" % max_len] + select({
            "//build:fuzzing": ["-max_total_time=%d" % seconds],
            "//conditions:default": [],
        }) + folder,
        linkopts = linkopts + select({
            "//build:fuzzing": ["-fsanitize=fuzzer"],
            "//conditions:default": [],
        }),
        tags = tags + ["fuzz"],
        deps = deps + select({
            "//build:fuzzing": [],
            "//conditions:default": ["//build:fuzz_replay"],
        }),
        **kwargs
    )
