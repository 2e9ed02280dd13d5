#!/usr/bin/env bash
# What the cron jobs share; sourced by each: `. cron_environment.sh LOG`. It sets root, python, state and name, goes to
# the project's root, sends the output to the log, and takes the job's lock, or ends the job when another one holds it.
# Nothing is installed or fetched: the jobs use the environment that is there.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 2
name=$(basename "$0" .sh)
: "${HOME:=$(getent passwd "$(id -u)" | cut -d: -f6)}"
state=${XDG_STATE_HOME:-$HOME/.local/state}/dspy_flywheel
(umask 077 && mkdir -p "$state") || exit 2
logs=${LOG_DIR:-/var/log}
[ -d "$logs" ] && [ -w "$logs" ] || logs=$state

say() { echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $name: $*"; }

if [ ! -t 1 ] && [ ! -f /dev/stdout ]; then # a terminal or a log file already takes the output; a pipe gets a copy
  exec > >(exec tee -a "$logs/$1") 2>&1
  copier=$!
  trap 'exec >&- 2>&-; wait "$copier"' EXIT # the log is whole before the job ends
fi

cd "$root" || exit 2
# One job of a kind at a time for this project; the kernel frees the lock when the job dies.
command -v flock >/dev/null || { say "no flock command: install util-linux"; exit 2; }
exec 9>"$state/$name.$(printf %s "$root" | cksum | cut -d ' ' -f 1).lock" || exit 2
flock -n 9 || { say "skipped: another one is running"; exit 0; }

python=${UV_PROJECT_ENVIRONMENT:-.venv}
case $python in /*) ;; *) python=$root/$python ;; esac
python=$python/bin/python
[ -x "$python" ] || { say "no Python at $python: run 'make setup' in $root"; exit 2; }
