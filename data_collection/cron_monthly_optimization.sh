#!/usr/bin/env bash
# Monthly: one optimization cycle. GIT_MINING_TARGET, SYNTHETIC_TARGET, MIPRO_TRIALS, OUTPUT_DIR and REPO_PATH set it;
# --dry-run prints the command; a file .stop_optimization in the project's root keeps it from starting.
# Exits as the orchestrator does: 0 the cycle completed, 1 nothing could be evaluated, 2 no key or model, 143 terminated.
set -u
[ $# -eq 0 ] || [ "$*" = --dry-run ] || { echo "usage: $0 [--dry-run]" >&2; exit 2; }
. "$(dirname "${BASH_SOURCE[0]}")/cron_environment.sh" dspy_optimization.log

runs=${OUTPUT_DIR:-/tmp/optimization_runs}
command=("$python" data_collection/optimization_orchestrator.py --require-model
  --git-target "${GIT_MINING_TARGET:-30}" --synthetic-target "${SYNTHETIC_TARGET:-20}" --trials "${MIPRO_TRIALS:-50}"
  --output-dir "$runs" --repo-path "${REPO_PATH:-$root}")
if [ $# -gt 0 ]; then
  printf '%q ' "${command[@]}"
  echo
  exit 0
fi
if [ -e .stop_optimization ]; then
  say "stopped: remove $root/.stop_optimization to go on"
  exit 0
fi

say "begins"
"${command[@]}"
code=$?
if [ "$code" -eq 0 ]; then
  say "completed"
else
  say "failed (exit code $code); see above and the newest summary in $runs"
  "$python" data_collection/monitoring.py check-orchestration || say "the failure could not be alerted"
fi
exit "$code"
