#!/usr/bin/env bash
# Weekly: removes runs' temporary files after 7 days, logs and alerts after 30. --dry-run prints what it would remove.
# Summaries, reports, results, programs and experiments stay, whatever their age; old dataset versions are archived.
set -u
[ $# -eq 0 ] || [ "$*" = --dry-run ] || { echo "usage: $0 [--dry-run]" >&2; exit 2; }
. "$(dirname "${BASH_SOURCE[0]}")/cron_environment.sh" dspy_cleanup.log

failed=0
act=(-print -exec rm -rf -- {} +)
[ $# -eq 0 ] || act=(-print)

sweep() { # sweep FOLDER TESTS...: links are never followed, and a folder in /tmp must be ours
  [ -d "$1" ] || return 0
  if [ -L "$1" ] || [ ! -O "$1" ]; then
    say "left alone: $1 is a link or somebody else's"
  elif ! find -P "$@" "${act[@]}"; then
    say "not everything in $1 could be removed"
    failed=1
  fi
}

sweep "${OUTPUT_DIR:-/tmp/optimization_runs}" -mindepth 2 -maxdepth 2 -type d -path '*/run_*/*' \
  \( -name collected_data -o -name validated_data -o -name cache \) -mtime +7 -prune
sweep "${ALERT_DIR:-/tmp/dspy_alerts}" -maxdepth 1 -type f -name 'alert_*.json' -mtime +30
sweep "$logs" -maxdepth 1 -type f -name 'dspy_*.log*' -mtime +30
"$python" data_collection/dataset_manager.py archive "$@" || failed=1
if [ $# -eq 0 ]; then # a log that is written every hour never gets old: from 1 MB on it is put aside first
  find "$logs" -maxdepth 1 -type f -name 'dspy_*.log' -size +1024k -exec mv {} {}."$(date -u +%Y%m%d)" \;
  say "done"
else
  say "dry run: nothing was removed"
fi
exit "$failed"
