#!/bin/sh
# PRISM, relabel for a ResNet-101 student: relabel_r18.sh with resnet101 as primary and its published ensemble rule.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/../scripts/env.sh"
RUN="$OUT/full_${PRIMARY:-resnet18}"
exec sh "$here/relabel_r18.sh" --data "$RUN" --fkd-path "$RUN/fkd_r101" --arch-name resnet101 --ensemble primary-half "$@"
