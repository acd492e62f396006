#!/bin/sh
# PRISM on SLURM: recover, relabel and validate as three arrays, each after all of the one before is done.
#   IMAGENET=/data/imagenet ARRAY=8 sh scripts/slurm/submit.sh r18 --partition=gpu --account=me -- --precision bf16
# r18, r50 or r101; further words go to every sbatch, those after -- to every stage; RECOVER, RELABEL, VALIDATE hold
# further flags of one.  IMAGENET, OUT, IPC, PRIMARY, PYTHON are as for the stage scripts; what they are here is
# given to the jobs as words, whatever of the environment sbatch exports.
# ARRAY is the number of elements of recover and relabel; validate has one for each of three seeds.
# Where one fails, those after it are cancelled: mend it and submit again, what is finished is skipped.
set -euf
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$here/env.sh"

student=${1:-}
[ -f "$ROOT/recover/recover_$student.sh" ] || stop "which student? r18, r50 or r101, got '$student'"
shift
command -v sbatch >/dev/null || stop "no sbatch here: submit where SLURM is, or run the stage scripts without it"
ARRAY=${ARRAY:-8}
number ARRAY "$ARRAY"
elements=--array=0-$((ARRAY - 1))
case " $* " in *" -- "*) ;; *) set -- "$@" -- ;; esac

# submit STAGE SCRIPT OPTIONS FLAGS WORDS...: prints the job id.  OPTIONS, FLAGS: of this stage alone, split at
# spaces;  WORDS: sbatch's, --, the stage's.
submit() {
    stage=$1 script=$ROOT/$1/$2 options=$3 flags=$4 met=''
    shift 4
    for word in "$@"; do  # every word moves to the end; at the first -- what belongs between the two kinds does
        shift
        if [ -n "$met" ] || [ "$word" != -- ]; then set -- "$@" "$word"; continue; fi
        met=yes
        # shellcheck disable=SC2086  # options are words
        set -- "$@" $options "$here/slurm/$stage.sbatch" "IMAGENET=$IMAGENET" "OUT=$OUT" "IPC=$IPC" \
            "PYTHON=$PYTHON" ${PRIMARY:+"PRIMARY=$PRIMARY"} ${TORCH_HOME:+"TORCH_HOME=$TORCH_HOME"} "$script"
    done
    # shellcheck disable=SC2086  # flags are words
    id=$(sbatch --parsable "--job-name=prism-$stage-$student" "$@" $flags) || return
    echo "${id%%;*}"  # --parsable adds ";cluster" where there are several
}

recover=$(submit recover "recover_$student.sh" "$elements" "${RECOVER:-}" "$@")
echo "recover   $recover"
relabel=$(submit relabel "relabel_$student.sh" "$elements --dependency=afterok:$recover --kill-on-invalid-dep=yes" \
    "${RELABEL:-}" "$@")
echo "relabel   $relabel"
validate=$(submit validate "train_FKD_10_$student.sh" "--dependency=afterok:$relabel --kill-on-invalid-dep=yes" \
    "${VALIDATE:-}" "$@")
echo "validate  $validate"
