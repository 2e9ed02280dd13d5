#!/usr/bin/env bash
# Monthly: one optimization cycle. GIT_MINING_TARGET, SYNTHETIC_TARGET, MIPRO_TRIALS, OUTPUT_DIR and REPO_PATH set it.
# First goes on with a run that was cut short (younger than 7 days, resumed less than 3 times); --resume does only that.
# --dry-run prints the commands; a file .stop_optimization in the project's root keeps both from starting.
# Exits as the orchestrator does: 0 the cycle completed, 1 nothing could be evaluated, 2 no key or model, 143 terminated.
set -u
case "$*" in '' | --dry-run | --resume) ;; *) echo "usage: $0 [--dry-run | --resume]" >&2; exit 2 ;; esac
. "$(dirname "${BASH_SOURCE[0]}")/cron_environment.sh" dspy_optimization.log

runs=${OUTPUT_DIR:-/tmp/optimization_runs}
orchestrator=("$python" data_collection/optimization_orchestrator.py --require-model --output-dir "$runs")
resume=("${orchestrator[@]}" --resume unfinished)
begin=("${orchestrator[@]}" --git-target "${GIT_MINING_TARGET:-30}" --synthetic-target "${SYNTHETIC_TARGET:-20}"
  --trials "${MIPRO_TRIALS:-50}" --repo-path "${REPO_PATH:-$root}")
if [ "$*" = --dry-run ]; then
  printf '%q ' "${resume[@]}" && echo && printf '%q ' "${begin[@]}" && echo
  exit 0
fi
if [ -e .stop_optimization ]; then
  say "stopped: remove $root/.stop_optimization to go on"
  exit 0
fi

run() {
  "$@" || failed=$?
}
failed=0
say "begins"
run "${resume[@]}"
[ $# -gt 0 ] || [ "$failed" -eq 143 ] || run "${begin[@]}"
if [ "$failed" -eq 0 ]; then
  say "completed"
else
  say "failed (exit code $failed); see above and the newest summary in $runs"
  "$python" data_collection/monitoring.py check-orchestration || say "the failure could not be alerted"
fi
exit "$failed"
