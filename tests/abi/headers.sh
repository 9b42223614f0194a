#!/bin/sh
# headers.sh INCLUDE SUFFIX COMPILER STANDARD ... - each public header compiles alone, without a warning, in each language level.
set -eu
include=$1 suffix=$2 compiler=$3
shift 3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for header in attn abi cache; do
    file=$folder/$header.$suffix
    echo "#include <attn/$header.h>" > "$file"
    for standard in "$@"; do
        "$compiler" "-std=$standard" -Wall -Wextra -Wpedantic -Werror "-I$include" -fsyntax-only "$file"
        echo "pass $header.h $standard"
    done
done
