#!/bin/sh
# Runs tests under the thread sanitizer, with nothing suppressed: any report fails.
#
# Rust's own library is built with the sanitizer too, which otherwise does not see its locks and channels;
# so this needs its sources, and has rustup bring them once.
#
#   sh tools/thread_sanitizer.sh CARGO_TEST_ARG ...
set -eu
cd "$(dirname "$0")/.."
[ -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ] || rustup component add rust-src
# Options of an unstable compiler, which the stable one has too when it is told that it may.
export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=thread CARGO_TARGET_DIR=target/threads
host=$(rustc -vV | sed -n 's/^host: //p')
# Doctests would be linked without the sanitizer; there are none that start a thread.
exec cargo test --locked -Zbuild-std --target "$host" --lib --tests "$@"
