#!/bin/sh
# Table 3 of the paper: scripts/reproduce.sh 3, rows and flags as there.
set -eu
exec sh "$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/reproduce.sh" 3 "$@"
