#!/bin/sh
# sre2l: scripts/methods/method.sh sre2l, flags as there; its settings: utils/methods/sre2l.py.
set -eu
exec sh "$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/method.sh" sre2l "$@"
