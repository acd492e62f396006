#!/bin/sh
# PRISM on SLURM: recover, relabel and validate as three arrays, each after all of the one before is done.
#   IMAGENET=/data/imagenet ARRAY=8 sh scripts/slurm/submit.sh r18 --partition=gpu --account=me
# r18, r50 or r101; further words go to every sbatch.  IMAGENET, OUT, IPC, PRIMARY as for the stage scripts.
# ARRAY is the number of elements of recover and relabel; validate has one for each of three seeds.
# Where one fails, those after it are cancelled: mend it and submit again, what is finished is skipped.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
PRISM_ROOT=$(CDPATH='' cd -- "$here/../.." && pwd)
export PRISM_ROOT

stop() { echo "submit: $1" >&2; exit 2; }

# submit STAGE_SCRIPT BATCH_FILE OPTIONS...: prints the job id.
submit() {
    stage=$1 file=$2
    shift 2
    id=$(STAGE=$stage sbatch --parsable "$@" "$here/$file") || return
    echo "${id%%;*}"  # --parsable adds ";cluster" where there are several
}

student=${1:-}
[ -f "$PRISM_ROOT/recover/recover_$student.sh" ] || stop "which student? r18, r50 or r101, got '$student'"
shift
ARRAY=${ARRAY:-8}
case $ARRAY in ''|*[!0-9]*|0*) stop "ARRAY is the number of elements, got '$ARRAY'" ;; esac
elements=--array=0-$((ARRAY - 1))

recover=$(submit "recover/recover_$student.sh" recover.sbatch "$@" "$elements")
echo "recover   $recover"
relabel=$(submit "relabel/relabel_$student.sh" relabel.sbatch "$@" "$elements" \
    "--dependency=afterok:$recover" --kill-on-invalid-dep=yes)
echo "relabel   $relabel"
validate=$(submit "validate/train_FKD_10_$student.sh" validate.sbatch "$@" \
    "--dependency=afterok:$relabel" --kill-on-invalid-dep=yes)
echo "validate  $validate"
