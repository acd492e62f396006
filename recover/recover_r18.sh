#!/bin/sh
# PRISM, recover: ImageNet-1K images for a ResNet-18 student (paper table 1, 49.4 +- 0.2 at IPC 10, the paper's figure).
# Hardware: one CUDA GPU or more (NPROC=8).  Work at IPC 10: 100 units, 255,000 iterations of 100 images, 1 to 4
# teachers each; hours on your GPU: add --dry-run after a first unit has run.
#   IMAGENET=/data/imagenet sh recover_r18.sh       IPC=50 reuses the first ten indices      "$@" wins over all flags
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/../scripts/env.sh"
run recover.data_synthesis \
    --dataset imagenet-1k --train-data-path "$IMAGENET" --syn-data-path "$OUT" --exp-name full_resnet18 \
    --arch-name resnet18 --pool resnet18 mobilenet_v2 efficientnet_b0 shufflenet_v2_x0_5 alexnet \
    --teachers multi --subset-law bernoulli --max-bn-teachers 4 --selection pre \
    --batch-size 100 --lr 0.05 --iteration 4000 --iteration-step 500 --iteration-period 8 \
    --r-bn 0.01 --first-bn-multiplier 10 --jitter 32 --init real --ipc-start 0 --ipc-end "$IPC" "$@"
