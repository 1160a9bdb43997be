#!/bin/sh
# A bug for each tier of tests, which that tier must find: a test that cannot fail is no test.
#
# The bugs stand in the sources behind `#[cfg(canary = "name")]`, which no build of ours has; this table
# is the list of them. Each tier must pass without its bug, and fail with it.
#
#   name                 bug                                               tier that must find it
#   unreleased-result    a result is handed on without its bytes           thread sanitizer
#   late-refill          dispatch goes on when all is claimed, not half    unit tests
#   silent-dismissal     a worker that sleeps is not woken to leave        small worlds
#   unfenced-bell        no fence between completion and the parent's bell loom
#   blind-sleep          a worker does not look again before it sleeps     shuttle
#   trusted-link         the done stack's links are not checked            hostile memory
#   lost-is-done         a begun task of a dead worker passes for done     kill storm
#   lost-is-done         the same                                          kill points
#   leaked-descriptor    one more descriptor for each worker               leak census
#   credulous-witness    each list of atoms is taken for unchanged         composed programs
#   blind-patrol         wakes that were held back are never given  crowds
#   blind-audit          tasks that nobody sees any more are not told     hostile worker
#   immortal-worker      workers ignore their limit of tasks               CPython's own tests
#
#   sh tools/canaries.sh PYTHON [NAME ...]
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
python=$1
shift
only=" $* "
cd "$root" || exit 1
logs=$root/target/variants/logs
mkdir -p "$logs"
failed=0

# check NAME TIER CANARY_COMMAND COMMAND: runs both; the first must fail by a test, the second pass.
check() {
    if [ "$only" != "  " ] && [ "${only#* "$1" }" = "$only" ]; then
        return
    fi
    log=$logs/$1-$(printf '%s' "$2" | tr -c 'a-z\n' '_')
    if ! sh -c "$4" >"$log.sound" 2>&1; then
        echo "$1: $2 fails without the bug; see $log.sound"
        failed=1
    elif sh -c "$3" >"$log.bug" 2>&1; then
        echo "$1: $2 has NOT found the bug; see $log.bug"
        failed=1
    elif ! grep -Eq '^test result: FAILED|^FAILED |^[0-9]+ failed|^SUMMARY: ThreadSanitizer: ' "$log.bug"; then
        echo "$1: $2 did not come to a verdict; see $log.bug"
        failed=1
    else
        echo "$1: found by $2"
    fi
}

# rust NAME TIER FLAGS ARGS: a tier of cargo's.
rust() {
    wrapper=$(sh tools/with_cfg.sh "$1" "canary=\"$1\"")
    command="RUSTFLAGS='$3' cargo test --locked --target-dir target/canaries$(echo "$3" | tr -dc a-z) $4"
    check "$1" "$2" "RUSTC_WORKSPACE_WRAPPER=$wrapper $command" "$command"
}

# python NAME TIER ARGS: a tier of pytest's, with the built package of the canary.
python() {
    command="$python -m pytest -q $3"
    build="package=\$(sh tools/native_variant.sh $python $1 'canary=\"$1\"')"
    check "$1" "$2" "$build && PYTHONPATH=\$package $command" "$command"
}

rust late-refill "unit tests" "" "-p millpond-engine --lib"
rust silent-dismissal "small worlds" "" "-p millpond-table --test main small_worlds"
rust trusted-link "hostile memory" "" "-p millpond-table --test main hostile"
rust unfenced-bell "loom" "--cfg loom" "-p millpond-table --release --test loom completion"
rust blind-sleep "shuttle" "--cfg shuttle" "-p millpond-table --release --test shuttle random"
threads="sh tools/thread_sanitizer.sh -p millpond-table --test main threads"
wrapper=$(sh tools/with_cfg.sh unreleased-result 'canary="unreleased-result"')
check unreleased-result "thread sanitizer" "RUSTC_WORKSPACE_WRAPPER=$wrapper $threads" "$threads"
python lost-is-done "kill storm" "tests/reliability/test_kill_storm.py"
kill_point="$python -m pytest -q tests/reliability/test_kill_points.py -k worker.begin.begun"
# This one builds its module itself.
check lost-is-done "kill points" "MILLPOND_CANARY=lost-is-done $kill_point" "$kill_point"
python leaked-descriptor "leak census" "tests/reliability/test_leaks.py -k fork"
python credulous-witness "composed programs" "tests/exactness/test_composed.py -k 'alike and not otherwise and not nothing'"
python blind-patrol "crowds" "tests/test_crowd.py"
python blind-audit "hostile worker" "tests/reliability/test_hostile_worker.py -k 'tail and first'"
python immortal-worker "CPython's own tests" "tests/conformance/test_conformance.py -k cpythons"
exit $failed
