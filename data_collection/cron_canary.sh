#!/usr/bin/env bash
# Weekly: asks every deployed program its 20 frozen examples again; a significant drop or a changed model alerts.
# CANARY_ON_DRIFT, if set, is the command to run then, once a program, such as data_collection/cron_monthly_optimization.sh
set -u
. "$(dirname "${BASH_SOURCE[0]}")/cron_environment.sh" dspy_canary.log

"$python" data_collection/monitoring.py canary ${CANARY_ON_DRIFT:+--on-drift "$CANARY_ON_DRIFT"}
code=$?
[ "$code" -eq 0 ] || say "not every program could be asked (exit code $code)"
exit "$code"
