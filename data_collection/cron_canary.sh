#!/usr/bin/env bash
# Weekly: asks every deployed program its frozen examples again, and tells when the model behind it has changed.
# CANARY_ON_DRIFT, if set, is the command that is then run, once a program: the path of cron_monthly_optimization.sh.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/cron_environment.sh" dspy_canary.log

"$python" data_collection/monitoring.py canary ${CANARY_ON_DRIFT:+--on-drift "$CANARY_ON_DRIFT"}
code=$?
[ "$code" -eq 0 ] || say "not every program was asked (exit code $code)"
exit "$code"
