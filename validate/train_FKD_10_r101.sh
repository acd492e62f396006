#!/bin/sh
# PRISM, validate: three ResNet-101 students on recover_r101.sh and relabel_r101.sh; otherwise train_FKD_10_r18.sh.
# Expected top-1 at IPC 10, 50, 100 (the paper's table 1): 48.5 +- 1.7, 65.9 +- 0.2, 68.6 +- 0.4.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/../scripts/env.sh"
RUN="$OUT/full_${PRIMARY:-resnet18}"
exec sh "$here/train_FKD_10_r18.sh" --train-dir "$RUN" --fkd-path "$RUN/fkd_r101/$IPC" \
    --output-dir "$RUN/validate/resnet101_ipc$IPC" --model resnet101 "$@"
