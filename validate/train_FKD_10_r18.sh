#!/bin/sh
# PRISM, validate: three ResNet-18 students on the images and labels of recover_r18.sh and relabel_r18.sh.
# Expected top-1 at IPC 10, 50, 100 (the paper's table 1): 49.4 +- 0.2, 59.0 +- 0.1, 60.9 +- 0.2.
# Hardware: one CUDA GPU; NPROC=2 shares the two micro-batches.  Work at IPC 10: 3 x 300 epochs x 200 steps.
#   IMAGENET=/data/imagenet sh train_FKD_10_r18.sh       IPC=50 or 100       "$@" wins over all flags
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/../scripts/env.sh"
RUN="$OUT/full_resnet18"
run validate.train_FKD \
    --train-dir "$RUN" --fkd-path "$RUN/fkd/$IPC" --val-dir "$IMAGENET" \
    --output-dir "$RUN/validate/resnet18_ipc$IPC" --ipc "$IPC" --model resnet18 \
    --epochs 300 --gradient-accumulation-steps 2 --mix-type cutmix --min-scale-crops 0.25 \
    --loss-type mse_gt --ce-weight 0.1 --adamw-lr 0.001 --adamw-weight-decay 0.01 --schedule ssrs --zeta 2.5 \
    --seeds 0 1 2 "$@"
