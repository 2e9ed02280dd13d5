# Everything sets itself up: uv is installed into .tools/ when the machine has none.
REPO ?= .
QUICK_SIGNATURE ?= validate_completeness
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
RUN := $(UV) run --quiet --extra embedded

.PHONY: optimize test test-slow check benchmarks

.tools/bin/uv:
	python3 -m venv .tools && .tools/bin/pip install --quiet uv

setup: $(if $(findstring .tools,$(UV)),.tools/bin/uv)
	@$(UV) sync --quiet --extra embedded
.PHONY: setup

optimize: setup
	@$(RUN) python data_collection/optimization_orchestrator.py --repo-path "$(REPO)" --no-strict \
	  --allow-synthetic-test --since-days 3650 --quick $(if $(ALL),all,$(QUICK_SIGNATURE))

test: setup
	$(RUN) pytest -m "not slow"

# With the heavy extras too, whose tests are among these.
test-slow: setup
	$(RUN) --extra mlflow --extra ray pytest -m slow

check: setup
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(MAKE) test

# Prints what it would add to your crontab; YES=1 adds it.
install-cron: setup
	@$(RUN) python data_collection/install_cron.py $(if $(YES),--yes)
.PHONY: install-cron
