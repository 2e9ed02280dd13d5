#!/usr/bin/env bash
# Daily: goes on with an optimization run that was cut short (see cron_monthly_optimization.sh); else does nothing.
exec "$(dirname "${BASH_SOURCE[0]}")/cron_monthly_optimization.sh" --resume
