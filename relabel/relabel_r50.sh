#!/bin/sh
# PRISM, relabel for a ResNet-50 student: relabel_r18.sh with resnet50 as primary and its published ensemble rule.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/../scripts/env.sh"
RUN="$OUT/full_${PRIMARY:-resnet18}"
exec sh "$here/relabel_r18.sh" --data "$RUN" --fkd-path "$RUN/fkd_r50" --arch-name resnet50 --ensemble primary-half "$@"
