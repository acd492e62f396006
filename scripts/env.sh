# Sourced by the stage scripts (POSIX sh): the root on PYTHONPATH, the interpreter, the launcher, OUT.
# The caller's folder stays, so that relative paths hold.
# Before sourcing, the caller sets here=<its own folder>, which lies one below the root.
stop() { echo "${0##*/}: $1" >&2; exit 2; }
trap 'echo "interrupted: run the same command again" >&2; exit 75' INT TERM  # until exec: then it is Python's

# number NAME VALUE: stops unless it is one above 0.
number() { case $2 in ''|*[!0-9]*|0*) stop "$1 must be a number above 0, got '$2'" ;; esac; }

ROOT=$(CDPATH='' cd -- "$here/.." && pwd)
case "${PYTHONPATH:-}:" in
    "$ROOT:"*) ;;
    *) export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" ;;
esac
if [ -z "${PYTHON:-}" ]; then  # an active environment first; conda's if it has torch, since its base always is active
    if [ -n "${VIRTUAL_ENV:-}" ]; then PYTHON="$VIRTUAL_ENV/bin/python"
    elif [ -n "${CONDA_PREFIX:-}" ] && ls -d "$CONDA_PREFIX"/lib/python3*/site-packages/torch >/dev/null 2>&1
    then PYTHON="$CONDA_PREFIX/bin/python"
    elif [ -x "$ROOT/.venv/bin/python" ]; then PYTHON="$ROOT/.venv/bin/python"
    else PYTHON=python3; fi
fi
command -v "$PYTHON" >/dev/null || stop "no program $PYTHON (from PYTHON, VIRTUAL_ENV, CONDA_PREFIX or PATH); \
unset what named it and run bash scripts/setup.sh"
OUT=${OUT:-$ROOT/out}
IMAGENET=${IMAGENET:-}
IPC=${IPC:-10}
number IPC "$IPC"
number NPROC "${NPROC:-1}"

# run MODULE ARGS...: one process, or NPROC of them under torchrun, one a device.
run() {
    if [ "${NPROC:-1}" -gt 1 ]; then
        exec "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node "$NPROC" -m "$@"
    fi
    exec "$PYTHON" -m "$@"
}
