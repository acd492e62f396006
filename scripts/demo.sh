#!/usr/bin/env bash
# Set-up and the whole pipeline on real images (handwritten digits), on two CPU cores in seven minutes.
#   demo.sh [FLAGS OF scripts/demo.py]     --help lists them once set-up has been; results land in out/demo
set -eu
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
python=${VIRTUAL_ENV:-$root/.venv}/bin/python
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
case " $* " in *" --help "*|*" -h "*)
    "$python" -m scripts.demo --help 2>/dev/null || sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit ;;
esac
bash "$root/scripts/setup.sh" digits report
exec "$python" -m scripts.demo "$@"
