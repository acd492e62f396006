#!/bin/sh
# PRISM, validate: three ResNet-50 students on recover_r50.sh and relabel_r50.sh; otherwise train_FKD_10_r18.sh.
# Expected top-1 at IPC 10, 50, 100 (the paper's table 1): 51.1 +- 1.2, 65.1 +- 0.1, 67.5 +- 0.2.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/../scripts/env.sh"
RUN="$OUT/full_${PRIMARY:-resnet18}"
exec sh "$here/train_FKD_10_r18.sh" --train-dir "$RUN" --fkd-path "$RUN/fkd_r50/$IPC" \
    --output-dir "$RUN/validate/resnet50_ipc$IPC" --model resnet50 "$@"
