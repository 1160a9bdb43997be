#!/bin/sh
# Prints how many instructions the fixed program of the hot path executes, as callgrind counts them:
# callgrind.sh PROGRAM WAY TASKS, where the ways are those of crates/millpond-engine/examples/hot_path.rs.
set -eu
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
valgrind --tool=callgrind --callgrind-out-file="$out/counts" "$1" "$2" "$3" >"$out/log" 2>&1 ||
    { cat "$out/log" >&2; exit 1; }
sed -n 's/^summary: //p' "$out/counts"
