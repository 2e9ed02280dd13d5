#!/usr/bin/env bash
# Hourly: every check; alerts go out by the channels of monitoring_config.json (MONITORING_CONFIG names another).
set -u
. "$(dirname "${BASH_SOURCE[0]}")/cron_environment.sh" dspy_monitoring.log

"$python" data_collection/monitoring.py check-all
code=$?
[ "$code" -eq 0 ] || say "the checks did not run (exit code $code)"
exit "$code"
