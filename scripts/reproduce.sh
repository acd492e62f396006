#!/bin/sh
# Any row of the paper's tables: runs what is missing of it, then prints the paper's figure beside it.
#   sh scripts/reproduce.sh --list | TABLE [ROW ...] [--dry-run] [--dataset cifar10|digits] [--from final] [--ipc N]
#   IMAGENET=/data/imagenet OUT=out sh scripts/reproduce.sh 1 prism-r18-10
#   NPROC=8 sh scripts/reproduce.sh 2 multi-4      as so many processes, one a device;  --shard i/n: one of many
# Hardware and cost: --dry-run counts them; scripts/reproducing holds the rows.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/env.sh"
words='' share=''
if [ "${1:-}" = --shard ]; then share="--shard $2"; shift 2; fi  # scripts/slurm/*.sbatch give it first
while [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; do words="$words $1"; shift; done
set -f  # a '*' stays what it is
# shellcheck disable=SC2086  # tables, rows and the share are words without spaces
exec "$PYTHON" -m scripts.reproduce $words --out "$OUT" ${IMAGENET:+--train-data-path "$IMAGENET"} \
    ${NPROC:+--processes "$NPROC"} $share "$@"
