#!/bin/sh
# What one wants to know of a CUDA device: is it right there, how fast, and methods side by side on full-size networks.
#   sh scripts/gpu.sh                                       all steps in order; what is whole is not run again
#   sh scripts/gpu.sh --list                                the steps with their state; --dry-run: their commands
#   sh scripts/gpu.sh --steps correctness                   some of them
#   sh scripts/gpu.sh --train-data-path data/cifar10 --limit 0    CIFAR-10 from there, however long it takes
# Each step ends within --limit seconds (600): what is not finished then is saved, and the same command goes on (status 75).
# $OUT/gpu/<step>.json holds what each found.  docs/gpu.md
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/env.sh"
exec "$PYTHON" -m scripts.gpu --out "$OUT" "$@"
