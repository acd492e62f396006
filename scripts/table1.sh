#!/bin/sh
# Table 1 of the paper: scripts/reproduce.sh 1, rows and flags as there.
set -eu
exec sh "$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/reproduce.sh" 1 "$@"
