#!/bin/sh
# decode.sh PREFIX CONSUMER WORK CC - builds and runs decode.c in both languages with what attn.pc says.
set -eu
prefix=$1 consumer=$2 work=$3 cc=$4
pc=$(find "$prefix" -name attn.pc)
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
LD_LIBRARY_PATH=$(pkg-config --variable=libdir attn)
export LD_LIBRARY_PATH
"$prefix/bin/attnc" "$consumer/decode.attn" -o "$work/decode.so"
strict="-Wall -Wextra -Wpedantic -Werror"
# shellcheck disable=SC2046,SC2086 # flags are words
"$cc" -std=c99 $strict "$consumer/decode.c" -o "$work/c" $(pkg-config --cflags --libs attn) -lm
echo C99
"$work/c" "$work/decode.so"
# shellcheck disable=SC2046,SC2086
c++ -std=c++11 $strict -x c++ "$consumer/decode.c" -x none -o "$work/cxx" $(pkg-config --cflags --libs attn)
echo C++11
"$work/cxx" "$work/decode.so"
