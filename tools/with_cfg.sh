#!/bin/sh
# Prints a RUSTC_WORKSPACE_WRAPPER that adds cfgs to the crates of this workspace, and to no other:
# what they depend on is built once for all variants. Each name is a wrapper of its own, from which
# cargo tells the variants' artefacts apart.
#
#   sh tools/with_cfg.sh NAME CFG ...
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
wrapper=$root/target/variants/$1/rustc
shift
new=$(printf '#!/bin/sh\nexec "$@"' && printf " --cfg '%s'" "$@")
if [ "$(cat "$wrapper" 2>/dev/null)" != "$new" ]; then
    mkdir -p "$(dirname "$wrapper")"
    printf '%s\n' "$new" >"$wrapper"
    chmod +x "$wrapper"
fi
printf '%s' "$wrapper"
