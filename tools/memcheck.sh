#!/bin/sh
# Runs the walker of object graphs, and arrays that cross without a copy, under valgrind. CPython's own
# small reports, such as those of `int.from_bytes` during imports, do not count; one that passes
# through the native module does. Give the Python that has Millpond, and numpy, installed.
set -eu
python=$1
root=$(cd "$(dirname "$0")/.." && pwd)
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# script, its last line's beginning
check() {
    PYTHONMALLOC=malloc OPENBLAS_NUM_THREADS=1 valgrind --num-callers=40 --leak-check=no \
        --trace-children=yes --suppressions="$root/tools/memcheck.supp" "$python" "$root/tests/memcheck/$1" >"$log" 2>&1 ||
        { cat "$log"; exit 1; }
    grep -q "^$2" "$log" || { cat "$log"; exit 1; }
    if grep -n '_native' "$log"; then
        cat "$log"
        exit 1
    fi
    echo "$1: none of these reports is of the native module:"
    grep 'ERROR SUMMARY' "$log"
}

check walk_graphs.py 'walked all'
check lend_arrays.py 'lent all'
