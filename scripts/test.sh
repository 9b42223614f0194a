#!/bin/sh
# test.sh - sets up what is missing, builds, and runs every test. Ends with `N passed, N failed`; exit status 1 when something failed.
#   --asan     with AddressSanitizer and UndefinedBehaviorSanitizer, in build-asan/
#   --tsan     with ThreadSanitizer, in build-tsan/: the tests that have threads, unless words name others
#   --clang    with clang 22 as the compiler, warnings as errors, in build-clang/
#   --long     with the campaigns: more random patterns, more mutations, every head dimension (an hour or so)
#   NAME ...   only tests whose path contains one of these words
set -eu
cd "$(dirname "$0")/.."

build=build type=Release sanitize=OFF tsan=OFF werror=OFF compiler="" long="" only=""
for word in "$@"; do
    case $word in
    --asan) build=build-asan type=RelWithDebInfo sanitize=ON ;;
    --tsan) build=build-tsan type=RelWithDebInfo tsan=ON ;;
    --clang) build=build-clang werror=ON compiler=clang-22 ;;
    --long) long=1 ;;
    -h | --help)
        sed -n '2,7s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    -*)
        echo "test.sh: there is no option $word (--asan, --tsan, --clang, --long, or words of test names)" >&2
        exit 2
        ;;
    *) only="$only${only:+|}$word" ;;
    esac
done
[ "$sanitize$tsan" != ONON ] || {
    echo "test.sh: --asan and --tsan exclude each other" >&2
    exit 2
}
[ "$sanitize" = OFF ] || build=build-asan${compiler:+-clang}
[ "$tsan" = OFF ] || build=build-tsan${compiler:+-clang} only=${only:-runtime|cache_|e2e_test/(A15|C8|E16)}

sh scripts/setup.sh
echo "test: building in $build/"
mkdir -p "$build"
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE="$type" -DATTNC_SANITIZE="$sanitize" -DATTNC_TSAN="$tsan" \
    -DATTNC_WERROR="$werror" \
    ${compiler:+-DCMAKE_C_COMPILER="$compiler"} >"$build/configure.log" 2>&1 || {
    cat "$build/configure.log" >&2
    exit 1
}
cmake --build "$build"

cached() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }
echo "test: running"
status=0
ATTNC_TEST_LONG=$long "$(cached ATTNC_PYTHON)" "$(cached ATTNC_LIT)" --succinct --output "$build/results.json" \
    ${only:+--filter "$only"} "$build/tests" || status=$?
exec "$(cached ATTNC_PYTHON)" scripts/summary.py "$build/results.json" "$status"
