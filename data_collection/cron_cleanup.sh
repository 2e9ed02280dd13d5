#!/usr/bin/env bash
# Weekly: removes runs' temporary files after 7 days, logs and alerts after 30; archives dataset versions and ended
# experiments after 90. --dry-run tells what would go. Summaries, reports, results and programs stay, whatever their age.
set -u
[ $# -eq 0 ] || [ "$*" = --dry-run ] || { echo "usage: $0 [--dry-run]" >&2; exit 2; }
. "$(dirname "${BASH_SOURCE[0]}")/cron_environment.sh" dspy_cleanup.log

failed=0
act=(-print -exec rm -rf -- {} +)
[ $# -eq 0 ] || act=(-print)

ours() { # ours FOLDER: links are never followed, and a folder in /tmp must be ours
  [ -d "$1" ] || return 1
  [ ! -L "$1" ] && [ -O "$1" ] && return 0
  say "left alone: $1 is a link or somebody else's"
  return 1
}
sweep() { # sweep FOLDER TESTS...
  ours "$1" || return 0
  find -P "$@" "${act[@]}" || { say "not everything in $1 could be removed"; failed=1; }
}

runs=${OUTPUT_DIR:-/tmp/optimization_runs}
for run in "$runs"/run_*; do # one that was written to this week is under way, or was resumed
  ours "$runs" && [ -z "$(find -P "$run" -type f -mtime -7 -print -quit)" ] && sweep "$run" -mindepth 1 -maxdepth 1 \
    -type d \( -name collected_data -o -name validated_data -o -name cache \) -mtime +7 -prune
done
sweep "${ALERT_DIR:-/tmp/dspy_alerts}" -maxdepth 1 -type f -name 'alert_*.json' -mtime +30
sweep "$logs" -maxdepth 1 -type f -name 'dspy_*.log*' -mtime +30
"$python" data_collection/ab_testing_framework.py archive --days 90 "$@" || failed=1
"$python" data_collection/dataset_manager.py archive --older-than 90 "$@" || failed=1
if [ $# -eq 0 ]; then # a log that is written every hour never gets old: from 1 MB on it is put aside first
  find "$logs" -maxdepth 1 -type f -name 'dspy_*.log' -size +1024k -exec mv {} {}."$(date -u +%Y%m%d)" \;
  say "done"
else
  say "dry run: nothing was removed"
fi
exit "$failed"
