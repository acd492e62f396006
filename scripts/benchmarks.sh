#!/bin/sh
# Every benchmark, one JSON Lines file each below $OUT/benchmarks: minutes on 2 cores; with a CUDA device at batch 100,
# one to five teachers, every precision, compiled too, and the training loop of three students.
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
if "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    for precision in fp32 tf32 bf16; do
        measure "recover_step_$precision" recover_step --batch-size 100 --teachers 1 2 3 4 5 --precision $precision
        measure "recover_step_${precision}_compile" recover_step --batch-size 100 --precision $precision --compile
    done
    measure memory memory --batch-size 100
    for model in resnet18 resnet50 resnet101; do
        measure "augment_$model" augment --model $model --train-batch-size 50 --steps 40 --images 2000
    done
else
    measure recover_step recover_step --rounds 7
    measure recover_step_compile recover_step --compile --rounds 5
    measure parts parts --threads 1
    measure memory memory
    measure augment augment
fi
measure labels labels
measure precision precision
if [ -n "$failed" ]; then
    echo "error: failed:$failed; what they printed before is in $FOLDER/<name>.jsonl.tmp" >&2
    exit 1
fi
