#!/bin/sh
# Builds Millpond with RUSTFLAGS that the normal build does not have, in a target folder of its own,
# and prints a folder for PYTHONPATH with a copy of the package that holds this build: the normal one
# is not touched. Debug assertions are on, and nothing is optimised across crates, to build fast.
#
#   sh tools/native_variant.sh PYTHON NAME RUSTFLAGS
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=$1 name=$2 flags=$3
target=$root/target/variants/$name
cd "$root"
PYO3_BUILD_EXTENSION_MODULE=1 PYO3_PYTHON=$python RUSTFLAGS=$flags \
    cargo build --locked --quiet -p millpond-python --target-dir "$target" >&2
mkdir -p "$target/python"
rm -rf "$target/python/millpond"
cp -r python/millpond "$target/python/"
rm -f "$target"/python/millpond/_native*.so
cp "$target/debug/lib_native.so" "$target/python/millpond/_native.so"
printf '%s' "$target/python"
