#!/bin/sh
# Sends all traffic back to the baselines, now: moves the routing file aside, so that routers serve the deployed
# programs within a second, then rolls every live experiment back on record. The first step needs no Python.
#
# Usage: emergency_rollback.sh [REASON]     (AB_EXPERIMENTS_DIR: folder of experiments)
# Exit codes: 0 all done, 1 traffic is safe but the records are not, 2 the routing file could not be moved or removed.
set -u
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")
reason=${1:-Emergency rollback - system-wide issue}
AB_EXPERIMENTS_DIR=${AB_EXPERIMENTS_DIR:-$root/.ab_experiments}
export AB_EXPERIMENTS_DIR
routing=$AB_EXPERIMENTS_DIR/routing_config.json

if [ -e "$routing" ] || [ -L "$routing" ]; then
  aside=$routing.emergency_$(date -u +%Y%m%d_%H%M%S)_$$
  if mv -f -- "$routing" "$aside"; then
    echo "moved aside: $aside" >&2
  elif rm -f -- "$routing"; then
    echo "removed: $routing" >&2
  else
    echo "error: $routing is still in place; remove it by hand" >&2
    exit 2
  fi
fi

# One sweep of the records at a time; traffic is safe by now, so a lock that cannot be had holds nothing up.
lock=$AB_EXPERIMENTS_DIR/.emergency.lock
if command -v flock >/dev/null && (umask 077 && : >>"$lock") 2>/dev/null; then
  exec 9>>"$lock"
  flock -w 60 9 || echo "another emergency rollback is at work; going on all the same" >&2
fi

python=${PYTHON:-$root/.venv/bin/python}
[ -x "$python" ] || python=python3
if ! "$python" "$here/ab_testing_framework.py" rollback --all --reason "$reason"; then
  echo "error: traffic is at the deployed programs, but the records could not be rolled back" >&2
  exit 1
fi
