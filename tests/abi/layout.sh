#!/bin/sh
# layout.sh PROGRAM GOLDEN - the layout of the ABI's structs is the one that modules and engines were built with (64-bit machines).
set -eu
printed=$(mktemp)
trap 'rm -f "$printed"' EXIT
"$1" > "$printed"
diff "$2" "$printed" || { echo "the ABI's layout changed (<: agreed, >: now); fields may only be appended"; exit 1; }
