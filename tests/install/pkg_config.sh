#!/bin/sh
# pkg_config.sh PREFIX CONSUMER WORK CC - builds and runs the consumer with what attn.pc says, and the tools that lie under PREFIX.
set -eu
prefix=$1 consumer=$2 work=$3 cc=$4
pc=$(find "$prefix" -name attn.pc)
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
# shellcheck disable=SC2046 # flags are words
"$cc" -std=c99 -Wall -Wextra -Wpedantic -Werror "$consumer/main.c" -o "$work/main" $(pkg-config --cflags --libs attn)
"$prefix/bin/attnc" "$consumer/window.attn" -o "$work/kernel.so"
LD_LIBRARY_PATH=$(pkg-config --variable=libdir attn) "$work/main" "$work/kernel.so"
"$prefix/bin/attn-run" "$work/kernel.so" --random 1,20 --check
"$prefix/bin/attnc" "$consumer/window.attn" --emit=air | "$prefix/bin/attnc-opt" --passes= - >"$work/air"
rm "$prefix/share/attnc/prelude/"*.attn
if "$prefix/bin/attnc" "$consumer/window.attn" --emit=air >"$work/air" 2>"$work/err"; then
    echo "attnc does not read the installed prelude"
    exit 1
fi
echo "the prelude is the installed one"
