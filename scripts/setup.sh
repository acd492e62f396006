#!/usr/bin/env bash
# Set-up from a bare machine: a .venv (unless a virtual environment is active), then the requirements.
# Quick and silent when nothing is missing.   setup.sh [extra] [dev]   adds requirements-extra.txt, -dev.txt.
set -eu
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

stop() { echo "setup: $1" >&2; exit 2; }

python=${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}
if [ -z "$python" ]; then
    python=$root/.venv/bin/python
    if [ ! -x "$python" ]; then
        base=$(command -v python3 || true)
        [ -n "$base" ] || stop "no python3 found; install Python 3.10 or newer (Debian: apt-get install python3 python3-venv)"
        "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
            || stop "$base is $("$base" -V 2>&1); Python 3.10 or newer is needed"
        "$base" -c 'import venv, ensurepip' 2>/dev/null \
            || stop "$base has no venv or ensurepip; install it (Debian: apt-get install python3-venv)"
        echo "setup: making $root/.venv" >&2
        "$base" -m venv "$root/.venv" || stop "$base -m venv failed; install python3-venv"
    fi
fi

files=("$root/requirements.txt")
for name in "$@"; do files+=("$root/requirements-$name.txt"); done

# What a requirements file names and this environment lacks (names only: nothing is pinned).
missing=$("$python" - "${files[@]}" <<'PY'
import sys
from importlib.metadata import PackageNotFoundError, version
for path in sys.argv[1:]:
    for line in open(path, encoding="utf-8"):
        name = line.split("#")[0].strip()
        try:
            name and version(name)
        except PackageNotFoundError:
            print(name)
PY
)
if [ -n "$missing" ]; then
    case $missing in *torch*)
        free_gb=$(($(df -Pk "$("$python" -c 'import sys; print(sys.prefix)')" | awk 'NR==2 {print $4}') / 1000000))
        [ "$free_gb" -ge 12 ] || stop "12 GB of disk are needed for torch and its CUDA wheels, $free_gb GB are free; free some, or install a CPU build of torch and torchvision from the same index yourself";;
    esac
    echo "setup: installing" $missing "(minutes)" >&2
    "$python" -m pip install --quiet --disable-pip-version-check $missing 2> >(grep -v 'is ignored: it is neither' >&2) \
        || stop "pip could not install: $(echo $missing); see its message above"
fi

"$python" -c 'import torch, torchvision' 2>/dev/null || stop "torch and torchvision do not fit each other. Mend it with:
    $python -m pip uninstall -y torch torchvision
    $python -m pip install torch torchvision"
