# Sourced by the .sbatch files (POSIX sh): an element's share, SLURM's warning passed on, the requeue.
# Before sourcing, the caller sets root=<PRISM's root>.

stop() { echo "slurm: $1" >&2; exit 2; }

# shard: this element's share i/n, whatever number the array starts at; 0/1 without an array.
shard() {
    first=${SLURM_ARRAY_TASK_MIN:-0} count=${SLURM_ARRAY_TASK_COUNT:-1}
    # A share left out would be missing from the images: lists and steps are refused.
    [ $((${SLURM_ARRAY_TASK_MAX:-0} - first + 1)) -eq "$count" ] \
        || stop "--array must be one range such as 0-7; one share of 8 alone: no --array, and --shard 3/8"
    echo "$((${SLURM_ARRAY_TASK_ID:-0} - first))/$count"
}

# run_stage SCRIPT ARGS...: runs a stage script and ends with its status; interrupted (75) is requeued.
# SLURM's SIGTERM reaches the batch shell alone (B:, and proctrack/cgroup at any other end), so a trap passes
# it on, once: a second one would stop the stage before it has saved.  wait, not exec: someone must requeue.
run_stage() {
    stage=$1 told='' status=0
    shift
    [ -f "$root/$stage" ] || stop "STAGE=$stage: no such script in $root; for example recover/recover_r50.sh"
    trap 'trap "" TERM; told=yes; kill -TERM "$!" 2>/dev/null || :' TERM
    NPROC=1 sh "$root/$stage" "$@" &
    child=$!
    wait "$child" || status=$?
    if [ -n "$told" ] && [ "$status" -gt 128 ]; then  # the signal ended wait, not the stage
        status=0
        wait "$child" || status=$?
    fi
    [ "$status" -ne 75 ] || requeue
    exit "$status"
}

# requeue: puts this job, or this element of an array, back into the queue.  Not what SLURM is already ending
# (scancel, preemption, the time limit itself): a requeue would bring a cancelled job back to life.
requeue() {
    job=$SLURM_JOB_ID
    [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
    case $(squeue --noheader --jobs="$job" --format=%T) in
        COMPLETING|CANCELLED) echo "slurm: SLURM is ending $job: saved, not requeued from here" >&2 ;;
        *) if scontrol requeue "$job"; then echo "slurm: $job saved and requeued" >&2
           else echo "slurm: $job saved, but not requeued: submit it again" >&2; fi ;;
    esac
}
