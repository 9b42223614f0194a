#!/bin/sh
# setup.sh - installs what building and testing attnc needs. Debian and Ubuntu by package name; elsewhere it says what to install.
# Does nothing, quickly, when all is there. docs/dependencies.md says what each package is for.
set -eu

packages="llvm-22-dev llvm-22-tools lld-22 clang-22 libclang-rt-22-dev flex bison cmake ninja-build gcc g++ libc6-dev pkg-config
          libpng-dev libsqlite3-dev libdlpack-dev python3-numpy"

installed() { dpkg-query -W -f='${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-query >/dev/null 2>&1; then
    ready=yes
    for tool in cmake ninja flex bison cc pkg-config; do
        command -v "$tool" >/dev/null 2>&1 || ready=no
    done
    [ "$ready" = yes ] && { command -v llvm-config-22 || command -v llvm-config; } >/dev/null 2>&1 && exit 0
    cat >&2 <<'END'
setup: this system has no apt-get. Please install:
  LLVM 22 with its C headers and CMake files, its tools (FileCheck, lit, not) and lld
  flex 2.6, bison 3.8, CMake 3.24 or newer, Ninja, a C17 compiler (gcc 12 or clang), pkg-config
  libpng, SQLite 3 and DLPack (dlpack/dlpack.h), with headers
  for the tests: Python 3 with NumPy; a C++ compiler and clang 22 are optional
END
    exit 1
fi

missing=""
for p in $packages; do
    installed "$p" || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

root=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || {
        echo "setup: not root, and there is no sudo. Please install:$missing" >&2
        exit 1
    }
    root="sudo"
fi

echo "setup: installing$missing"
export DEBIAN_FRONTEND=noninteractive
$root apt-get update -q >&2
# shellcheck disable=SC2086 # a list of words
if ! $root apt-get install -q -y --no-install-recommends $missing >&2; then
    echo "setup: apt-get could not install$missing" >&2
    echo "setup: LLVM 22 is in Debian 12 (security updates); where a release lacks it, add LLVM's own apt source" >&2
    exit 1
fi
