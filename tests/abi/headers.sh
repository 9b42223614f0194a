#!/bin/sh
# headers.sh INCLUDE DLPACK CC [CXX] - each public header compiles alone, in every language level that engines use, without a warning.
set -eu
include=$1 dlpack=$2 cc=$3 cxx=${4:-}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
compile() {
    compiler=$1 standard=$2 file=$3
    "$compiler" "-std=$standard" -Wall -Wextra -Wpedantic -Werror -isystem "$dlpack" "-I$include" -fsyntax-only "$file"
    echo "pass $(basename "$file") $standard"
}
for header in attn abi; do
    echo "#include <attn/$header.h>" > "$folder/$header.c"
    cp "$folder/$header.c" "$folder/$header.cc"
    for standard in c99 c11 c17; do compile "$cc" $standard "$folder/$header.c"; done
    if test -n "$cxx"; then
        for standard in c++11 c++17; do compile "$cxx" $standard "$folder/$header.cc"; done
    else
        echo "skipped: no C++ compiler"
    fi
done
