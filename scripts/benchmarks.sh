#!/bin/sh
# Every benchmark, one JSON Lines file each below $OUT/benchmarks: minutes on 2 cores.  What a GPU is asked, at batch
# 100, is scripts/gpu.sh.
# One that fails (a card too small, say) stops no other: those that did are named at the end, status 1.
#   OUT=out sh scripts/benchmarks.sh
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/env.sh"
FOLDER="$OUT/benchmarks"
mkdir -p "$FOLDER"
failed=
measure() { # measure FILE MODULE FLAGS...
    name=$1 file="$FOLDER/$1.jsonl"; shift
    echo "benchmarks.$*" >&2
    if "$PYTHON" -m "benchmarks.$@" > "$file.tmp"; then mv "$file.tmp" "$file"; else failed="$failed $name"; fi
}
measure recover_step recover_step --rounds 7
measure recover_step_compile recover_step --compile --rounds 5
measure parts parts --threads 1
measure memory memory
measure augment augment
measure labels labels
measure precision precision
if [ -n "$failed" ]; then
    echo "error: failed:$failed; what they printed before is in $FOLDER/<name>.jsonl.tmp" >&2
    exit 1
fi
