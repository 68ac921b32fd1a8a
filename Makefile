# Every target sets up .venv/ by itself; all it needs is Python 3.11 or newer with venv and pip.
#   make PYTHON=python3.12 …   another interpreter
#   make test ARGS="-k evaluate"   options for pytest

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint format bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv/ with the package and its tools

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'error: Python 3.11 or newer is needed; name one with make PYTHON=…' >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

test: $(STAMP) ## run the tests (a few minutes)
	$(BIN)/python -m pytest -q $(ARGS)

test-slow: $(STAMP) ## run the tests that take minutes each
	$(BIN)/python -m pytest -q -m slow $(ARGS)

lint: $(STAMP) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## put all files into the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove caches and the demo's output; .venv/ stays
	rm -rf demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find deepfinder_dask tests -name __pycache__ -type d -prune -exec rm -rf {} +
