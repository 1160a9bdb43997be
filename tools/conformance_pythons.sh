#!/bin/sh
# Builds Millpond for each other CPython of 3.12 or later that is installed here, in a virtual
# environment of its own, and prints their interpreters, separated by colons. What is not installed
# is not tested; what does not build is said on standard error, and fails the tests that want it.
set -eu
root=$1
found=
for version in 3.13; do
    python=
    for candidate in "python$version" "$HOME"/.pyenv/versions/"$version".*/bin/python; do
        if "$candidate" -c "import sys, venv, test.support; sys.exit(sys.version_info[:2] != tuple(map(int, '$version'.split('.'))))" 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || continue
    venv=$root/.venv-$version
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv" >&2
    "$venv/bin/python" -m pip install --quiet 'maturin>=1.14,<2' 'numpy>=2.4,<3' >&2
    (cd "$root" && VIRTUAL_ENV=$venv PATH="$venv/bin:$PATH" \
        "$venv/bin/maturin" develop --release --quiet --target-dir "target/py$version") >&2
    found=$found${found:+:}$venv/bin/python
done
printf '%s' "$found"
