#!/bin/sh
# prism: scripts/methods/method.sh prism, flags as there; its settings: utils/methods/prism.py.
set -eu
exec sh "$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/method.sh" prism "$@"
