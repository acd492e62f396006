#!/usr/bin/env bash
# Set-up, the linter, the types, the syntax of every script, and the test suite.
#   test.sh [--slow] [FLAGS OF PYTEST]     --slow adds the tests that take minutes
set -eu
case " $* " in *" --help "*|*" -h "*) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;; esac
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
bash scripts/setup.sh digits figures report dev
python=${VIRTUAL_ENV:-$root/.venv}/bin/python
for script in */*.sh scripts/*/*.sh; do bash -n "$script"; done
"$python" -m ruff check .
"$python" -m mypy
slow=(-m "not slow")
if [ "${1:-}" = --slow ]; then shift; slow=(); fi
exec "$python" -m pytest -n auto --dist loadfile "${slow[@]}" "$@"  # a process a core, a file in one process
