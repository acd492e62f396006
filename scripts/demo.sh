#!/usr/bin/env bash
# Set-up and the whole pipeline on real images (handwritten digits), on a CPU, in five minutes.
# Flags go to scripts/demo.py (see --help); results land in out/demo.
set -eu
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/scripts/setup.sh" extra
python=${VIRTUAL_ENV:-$root/.venv}/bin/python
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -m scripts.demo "$@"
