#!/bin/sh
# Methods side by side, with real images as controls: each under its own protocol and under one common one.
#   sh scripts/compare.sh --dataset digits --ipc 10 --draws 5                  every method
#   sh scripts/compare.sh --dataset cifar10 --ipc 1,10,50 --draws 3 prism edc  some of them
#   sh scripts/compare.sh --dataset folder:/data/pets --dry-run                what would run, and its cost
#   sh scripts/compare.sh --draws 5 --only-draws 0 1                           two of five draws: a process's share
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/env.sh"
words=''
while [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; do words="$words $1"; shift; done
set -f  # a '*' stays what it is
# shellcheck disable=SC2086  # methods are words without spaces
exec "$PYTHON" -m scripts.compare $words --out "$OUT" ${IMAGENET:+--train-data-path "$IMAGENET"} "$@"
