#!/bin/sh
# symbols.sh NM LIBRARY LIST - the library exports what the list says and nothing else. A new function is a new line of the list.
set -eu
exported=$(mktemp)
trap 'rm -f "$exported"' EXIT
"$1" -D --defined-only "$2" | awk '{ print $3 }' | LC_ALL=C sort > "$exported"
test -s "$exported" || { echo "$1 found no symbols in $2"; exit 1; }
diff "$3" "$exported" || { echo "exported symbols differ from $3 (<: listed, >: exported)"; exit 1; }
