#!/bin/sh
# Table 2 of the paper: scripts/reproduce.sh 2, rows and flags as there.
set -eu
exec sh "$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/reproduce.sh" 2 "$@"
