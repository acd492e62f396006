#!/bin/sh
# PRISM, validate: three ResNet-50 students on the images and labels of recover_r50.sh and relabel_r50.sh.
# Expected top-1 at IPC 10, 50, 100 (the paper's table 1): 51.1 +- 1.2, 65.1 +- 0.1, 67.5 +- 0.2.
# Hardware: one CUDA GPU; NPROC=2 shares the two micro-batches.  Work at IPC 10: 3 x 300 epochs x 200 steps.
#   IMAGENET=/data/imagenet sh train_FKD_10_r50.sh       IPC=50 or 100       "$@" wins over all flags
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/../scripts/env.sh"
if [ "$IPC" -le 10 ]; then BATCH=50; else BATCH=100; fi
RUN="$OUT/full_${PRIMARY:-resnet18}"
run validate.train_FKD \
    --train-dir "$RUN" --fkd-path "$RUN/fkd_r50/$IPC" --val-dir "$IMAGENET" \
    --output-dir "$RUN/validate/resnet50_ipc$IPC" --ipc "$IPC" --model resnet50 \
    --epochs 300 --batch-size "$BATCH" --gradient-accumulation-steps 2 --mix-type cutmix --min-scale-crops 0.25 \
    --loss-type mse_gt --ce-weight 0.1 --adamw-lr 0.001 --adamw-weight-decay 0.01 --schedule ssrs --zeta 2.5 \
    --seeds 0 1 2 "$@"
