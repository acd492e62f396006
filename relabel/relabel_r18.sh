#!/bin/sh
# PRISM, relabel: 300 epochs of soft labels for a ResNet-18 student, from the images of recover_r18.sh.
# Disk: 6 GB at IPC 10, 30 GB at 50, 60 GB at 100.  Hardware: one CUDA GPU or more (NPROC=8).
# The primary and its ensemble rule are the published recipe's; the batch follows the IPC (supplement table 1a).
#   IMAGENET=/data/imagenet sh relabel_r18.sh       IPC=50 or 100       "$@" wins over all flags
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/../scripts/env.sh"
RUN="$OUT/full_resnet18"
run relabel.generate_soft_label \
    --data "$RUN" --fkd-path "$RUN/fkd" --ipc "$IPC" --epochs 300 --val-dir "$IMAGENET" \
    --min-scale-crops 0.25 --mix-type cutmix --arch-name resnet18 \
    --pool resnet18 mobilenet_v2 alexnet shufflenet_v2_x0_5 --candidate-number 4 --ensemble equal-norm "$@"
