#!/bin/sh
# PRISM, recover: ImageNet-1K images for a ResNet-50 student (paper table 1, 51.1 +- 1.2 at IPC 10, the paper's figure).
# As published these are recover_r18.sh's; PRIMARY=resnet50 follows the paper's alignment rule (4.4) instead.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
exec sh "$here/recover_r18.sh" --exp-name "full_${PRIMARY:-resnet18}" --arch-name "${PRIMARY:-resnet18}" "$@"
