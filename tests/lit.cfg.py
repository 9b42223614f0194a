# How the tests are found and run (docs/testing.md).
#
# Text tests (.air, .attn, .test) hold their commands behind `RUN:`. Test programs written in C are listed by CMake; see programs.py.
import os
import shutil
import sys

import lit.formats

sys.path.insert(0, os.path.join(config.source_root, "tests"))
import programs

config.name = "attnc"
config.suffixes = [".air", ".attn", ".test"]
config.excludes = ["cases", "consumer", "imports", "inputs"]
config.test_source_root = os.path.join(config.source_root, "tests")
config.test_exec_root = os.path.join(config.build_root, "tests", "out")
config.test_format = programs.TextAndPrograms(os.path.join(config.build_root, "tests", "programs.txt"),
                                                os.environ.get("ATTNC_TEST_LONG"))

# Programs by their names, from this build before anything installed.
folders = [os.path.join(config.build_root, "tools"), config.llvm_tools]
config.environment["PATH"] = os.pathsep.join(folders + [os.environ["PATH"]])
config.environment["ATTNC_TEST_LONG"] = os.environ.get("ATTNC_TEST_LONG", "")
for name in ("HOME", "TMPDIR", "CC", "CXX"):
    if name in os.environ:
        config.environment[name] = os.environ[name]
# Results must not depend on what the user has tuned: there is no default tuning database, unless a test makes one.
config.environment["XDG_CACHE_HOME"] = os.path.join(config.test_exec_root, "no-cache")
if config.sanitized:
    config.environment["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "detect_leaks=1")
    config.environment["UBSAN_OPTIONS"] = "print_stacktrace=1:halt_on_error=1"
    config.environment["TSAN_OPTIONS"] = "halt_on_error=1:second_deadlock_stack=1"

for name, value in (("source", config.source_root), ("build", config.build_root), ("python", config.python),
                    ("cc", config.c_compiler), ("cmake", config.cmake)):
    config.substitutions.append(("%{" + name + "}", value))

# What the machine and this run have; a test that REQUIRES more is skipped, and the summary says why.
with open("/proc/cpuinfo") as f:
    flags = set(next((line for line in f if line.startswith("flags")), "").split())
for feature, needs in (("avx2", {"avx2", "fma", "f16c"}), ("avx512", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
                       ("avx512bf16", {"avx512_bf16", "avx512vl"})):
    if needs <= flags:
        config.available_features.add(feature)
for feature, present in (("sanitizer", config.sanitized), ("long", config.environment["ATTNC_TEST_LONG"]),
                         ("c++", shutil.which("c++")), ("pkg-config", shutil.which("pkg-config")), ("clang-22", shutil.which("clang-22"))):
    if present:
        config.available_features.add(feature)
