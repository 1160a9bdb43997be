#!/bin/sh
# Builds Millpond with cfgs that the normal build does not have, and prints a folder for PYTHONPATH with
# a copy of the package that holds this build: the normal one is not touched. Debug assertions are on,
# and nothing is optimised across crates, to build fast.
#
#   sh tools/native_variant.sh PYTHON NAME CFG ...
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=$1 name=$2
shift 2
target=$root/target/variants
cd "$root"
PYO3_BUILD_EXTENSION_MODULE=1 PYO3_PYTHON=$python \
    RUSTC_WORKSPACE_WRAPPER=$(sh tools/with_cfg.sh "$name" "$@") \
    cargo build --locked --quiet -p millpond-python --target-dir "$target" >&2
package=$target/$name/python
mkdir -p "$package"
rm -rf "$package/millpond"
cp -r python/millpond "$package/"
rm -f "$package"/millpond/_native*.so
cp "$target/debug/lib_native.so" "$package/millpond/_native.so"
printf '%s' "$package"
