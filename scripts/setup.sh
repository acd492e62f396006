#!/usr/bin/env bash
# Set-up from a bare machine: a .venv (unless a virtual environment is active), then what it lacks of
# requirements.txt. Quick and silent when nothing is missing.
#   setup.sh [digits] [figures] [report] [d4m] [export] [curves] [dev]    each word adds its requirements-WORD.txt
#   setup.sh --locked [WORD ...]    in place of requirements.txt exactly requirements-lock.txt: the versions with
#                                   which docs/results was measured; digits and dev are in it
set -eu
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

stop() { echo "setup: $1" >&2; exit 2; }

files=("$root/requirements.txt")
for word in "$@"; do
    case $word in
        digits|figures|report|d4m|export|curves|dev) files+=("$root/requirements-$word.txt") ;;
        --locked) files[0]=$root/requirements-lock.txt ;;
        -h|--help) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;;
        *) stop "unknown word '$word'; it takes digits, figures, report, d4m, export, curves, dev, --locked, --help" ;;
    esac
done

if [ -n "${VIRTUAL_ENV:-}" ]; then
    python=$VIRTUAL_ENV/bin/python
    [ -x "$python" ] || stop "VIRTUAL_ENV is $VIRTUAL_ENV, which has no bin/python; unset it, or make that environment anew"
else
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

# The lines that this environment lacks: absent, or of another version than "name==version". A version below
# "name>=version" is the user's own choice: refused with the line's comment, not replaced.
missing=$("$python" - "${files[@]}" <<'PY'
import re
import sys
from importlib.metadata import PackageNotFoundError, version


def numbers(text):
    return [int(n) for n in re.findall(r"\d+", text.split("+")[0])]


for path in sys.argv[1:]:
    for line in open(path, encoding="utf-8"):
        wanted, _, why = (part.strip() for part in line.partition("#"))
        name, sign, bound = re.fullmatch(r"([\w.-]*)(==|>=)?(.*)", wanted).groups()
        try:
            own = name and version(name)
        except PackageNotFoundError:
            own = None
        if sign == ">=" and own and numbers(own) < numbers(bound):
            sys.exit(f"setup: {name} {own} is too old, {wanted} is needed: {why}; mend it with: "
                     f"{sys.executable} -m pip install --upgrade torch torchvision")
        if own is None or sign == "==" and own.split("+")[0] != bound:
            print(wanted)
PY
) || exit 2
if [ -n "$missing" ]; then
    case $missing in *torch*)
        free_gb=$(($(df -Pk "$("$python" -c 'import sys; print(sys.prefix)')" | awk 'NR==2 {print $4}') / 1000000))
        [ "$free_gb" -ge 12 ] || stop "12 GB of disk are needed for torch and its CUDA wheels, $free_gb GB are free; free some, or install a CPU build of torch and torchvision from the same index yourself";;
    esac
    echo "setup: installing" $missing "(minutes)" >&2
    "$python" -m pip install --quiet --disable-pip-version-check $missing 2> >(grep -v 'is ignored: it is neither' >&2) \
        || stop "pip could not install: $(echo $missing); see its message above"
fi

"$python" -c 'import torch, torchvision' 2>/dev/null || stop "torch and torchvision do not fit each other; mend it with: \
$python -m pip uninstall -y torch torchvision && $python -m pip install torch torchvision"
