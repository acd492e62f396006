# Sourced by the stage scripts (POSIX sh): the root on PYTHONPATH, the interpreter, the launcher, OUT.
# The caller's folder stays, so that relative paths hold.
# Before sourcing, the caller sets here=<its own folder>, which lies one below the root.
ROOT=$(CDPATH='' cd -- "$here/.." && pwd)
case "${PYTHONPATH:-}:" in
    "$ROOT:"*) ;;
    *) export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" ;;
esac
if [ -z "${PYTHON:-}" ]; then
    if [ -n "${VIRTUAL_ENV:-}" ]; then PYTHON="$VIRTUAL_ENV/bin/python"
    elif [ -x "$ROOT/.venv/bin/python" ]; then PYTHON="$ROOT/.venv/bin/python"
    else PYTHON=python3; fi
fi
command -v "$PYTHON" >/dev/null || { echo "${0##*/}: no program $PYTHON (PYTHON, VIRTUAL_ENV); \
unset both and run bash scripts/setup.sh" >&2; exit 2; }
OUT=${OUT:-$ROOT/out}
IMAGENET=${IMAGENET:-}
IPC=${IPC:-10}

# run MODULE ARGS...: one process, or NPROC of them under torchrun, one a device.
run() {
    if [ "${NPROC:-1}" -gt 1 ]; then
        exec "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node "$NPROC" -m "$@"
    fi
    exec "$PYTHON" -m "$@"
}
