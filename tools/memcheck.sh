#!/bin/sh
# Runs the walker of object graphs under valgrind. CPython's own small reports, such as those of
# `int.from_bytes` during imports, do not count; one that passes through the native module does.
# Give the Python that has Millpond installed.
set -eu
python=$1
root=$(cd "$(dirname "$0")/.." && pwd)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
PYTHONMALLOC=malloc valgrind --num-callers=40 --leak-check=no \
    "$python" "$root/tests/memcheck/walk_graphs.py" >"$log" 2>&1 || { cat "$log"; exit 1; }
grep -q '^walked all' "$log" || { cat "$log"; exit 1; }
if grep -n '_native' "$log"; then
    cat "$log"
    exit 1
fi
tail -n 1 "$log"
echo "none of these reports is of the native module"
