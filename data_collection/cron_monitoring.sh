#!/usr/bin/env bash
# Hourly: every check; alerts go out by the channels of monitoring_config.json (MONITORING_CONFIG names another).
# METRICS_FILE, if set, is replaced by the figures for node_exporter's textfile collector.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/cron_environment.sh" dspy_monitoring.log

"$python" data_collection/monitoring.py check-all
code=$?
[ "$code" -eq 0 ] || say "the checks did not run (exit code $code)"
if [ -n "${METRICS_FILE:-}" ]; then # renamed into place: the collector never reads half a file
  scratch=$METRICS_FILE.$$
  if "$python" data_collection/monitoring.py metrics >"$scratch" && chmod 644 "$scratch"; then
    mv -f -- "$scratch" "$METRICS_FILE" || code=1
  else
    rm -f -- "$scratch"
    say "the metrics could not be written to $METRICS_FILE"
    code=1
  fi
fi
exit "$code"
