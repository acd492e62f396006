#!/bin/sh
# Every stage of one method in sequence, with its settings (utils/methods), on ImageNet-1K.
#   IMAGENET=/data/imagenet IPC=10 sh scripts/methods/method.sh NAME [flags that all its stages take]
# MODEL is the student; images, labels and students go to $OUT/NAME; a rerun goes on where it stopped.
# RECOVER, RELABEL, VALIDATE hold further flags of one stage.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$here/env.sh"
[ $# -gt 0 ] || { echo "method: which one? a name of utils/methods, for example sre2l" >&2; exit 2; }
name=$1; shift
MODEL=${MODEL:-resnet18} RUN="$OUT/$name"
"$PYTHON" -m scripts.methods.settings "$name"  # a method that lacks a stage ends here

# stage MODULE ARGS...: one stage; after a --dry-run that finds something missing the others show theirs too.
worst=0
stage() {
    (run "$@") && return
    code=$?
    case " $* " in *" --dry-run "*) worst=$code ;; *) exit $code ;; esac
}
# shellcheck disable=SC2086  # the stages' own flags are words
stage recover.data_synthesis --protocol "$name" --train-data-path "$IMAGENET" --syn-data-path "$OUT" --exp-name "$name" \
    --ipc-end "$IPC" ${RECOVER:-} "$@"
# shellcheck disable=SC2086
stage relabel.generate_soft_label --protocol "$name" --data "$RUN" --ipc "$IPC" --val-dir "$IMAGENET" ${RELABEL:-} "$@"
# shellcheck disable=SC2086
stage validate.train_FKD --protocol "$name" --train-dir "$RUN" --fkd-path "$RUN/fkd/$IPC" --val-dir "$IMAGENET" \
    --output-dir "$RUN/validate/${MODEL}_ipc$IPC" --ipc "$IPC" --model "$MODEL" --seeds 0 1 2 ${VALIDATE:-} "$@"
exit $worst
