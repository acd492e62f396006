# Sourced by the .sbatch files (POSIX sh): an element's share, SLURM's warning passed on, the requeue.
# Before sourcing, the caller sets root=<PRISM's root> and stage=<its stage script>.

stop() { echo "slurm: $1" >&2; exit 2; }

told='' child=''
trap 'trap "" TERM; told=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || :' TERM
job=$SLURM_JOB_ID
[ -z "${SLURM_ARRAY_TASK_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID

# ask FORMAT: what squeue says of this job, or element of an array.
ask() { squeue --noheader --jobs="$job" --format="$1"; }

# shard: this element's share i/n: of SHARES where that is set, else of the array; 0/1 without an array.
shard() {
    index=${SLURM_ARRAY_TASK_ID:-0}
    if [ -n "${SHARES:-}" ]; then  # some elements of an array of so many, again
        case $SHARES in *[!0-9]*|0*) stop "SHARES is the number of all shares, got '$SHARES'" ;; esac
        [ "$index" -lt "$SHARES" ] || stop "--array has an element $index, SHARES=$SHARES end at $((SHARES - 1))"
        echo "$index/$SHARES"
        return
    fi
    # A share left out would be missing from the images, and a part taken for the whole would make everything.
    first=${SLURM_ARRAY_TASK_MIN:-0} last=${SLURM_ARRAY_TASK_MAX:-0} count=${SLURM_ARRAY_TASK_COUNT:-1}
    [ $((last - first + 1)) -eq "$count" ] && { [ "$first" -eq 0 ] || { [ "$first" -eq 1 ] && [ "$last" -gt 1 ]; }; } \
        || stop "--array must be one range from 0 or 1 on, such as 0-7; shares 3 and 5 of 8 alone: SHARES=8 sbatch --array=3,5"
    echo "$((index - first))/$count"
}

# run_stage ARGS...: runs the stage script and ends with its status; interrupted (75) is requeued, and so is what
# SLURM's warning ended before it could say so (143, 130).
# SLURM's SIGTERM reaches the batch shell alone (B:, and proctrack/cgroup at any other end), so a trap passes
# it on, once.  wait, not exec: someone must requeue.
run_stage() {
    status=0
    echo "slurm: $(date '+%F %T') $(hostname) $job: ${stage#"$root/"} $*"
    case $(ask %l) in [0-4]:[0-9][0-9])
        stop "--time is $(ask %l): the warning comes 3 to 4 minutes before its end; give 10 minutes or more" ;;
    esac
    NPROC=1 sh "$stage" "$@" &
    child=$!
    [ -z "$told" ] || kill -TERM "$child" 2>/dev/null || :  # it came before there was a child
    wait "$child" || status=$?
    if [ -n "$told" ] && [ "$status" -gt 128 ]; then  # the signal ended wait, perhaps not the stage
        ended=0
        wait "$child" || ended=$?
        [ "$ended" -eq 127 ] || status=$ended  # 127: it has been waited for
    fi
    [ -z "$told" ] || case $status in 130|143) status=75 ;; esac
    [ "$status" -ne 75 ] || requeue
    exit "$status"
}

# requeue: puts this job, or this element of an array, back into the queue.  Not what SLURM is already ending
# (scancel, preemption, the time limit itself): a requeue would bring a cancelled job back to life.
requeue() {
    case $(ask %T) in
        COMPLETING|CANCELLED) echo "slurm: SLURM is ending $job: interrupted, not requeued from here" >&2 ;;
        *) if scontrol requeue "$job"; then echo "slurm: $job interrupted and requeued" >&2
           else echo "slurm: $job interrupted, but not requeued: submit it again" >&2; fi ;;
    esac
}
