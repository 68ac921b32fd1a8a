# Every target sets up .venv/ by itself; all it needs is Python 3.11 or newer with venv and pip.
#   make PYTHON=python3.12 …   another interpreter
#   make test ARGS="-k evaluate"   options for pytest
#   make test JOBS=0      in one process; three keep two cores busy, as many tests wait for other processes
#   make peers PEERS_PYTHON=…      another Python 3.11 for the peers

PYTHON ?= python3
PEERS_PYTHON ?= python3.11
ARGS ?=
JOBS ?= 3
SHELL := /bin/bash
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-browser lint format docs bench peers weights clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv/ with the package and its tools

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'error: Python 3.11 or newer is needed; name one with make PYTHON=…' >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo 'Setting up .venv/ (a few minutes, once)'
	$(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## simulate a tomogram, find its particles, compare them with the truth
	$(BIN)/deepfinder simulate demo -o demo/truth --overwrite
	$(BIN)/deepfinder locate demo/truth/demo.zarr -w demo -o demo/found --overwrite
	$(BIN)/deepfinder evaluate demo/truth/demo_particles.parquet demo/found/particles.parquet
	@echo 'Look at the pictures: demo/found/slices.png, projection.png and distributions.png'

test: $(STAMP) ## run the tests (a few minutes)
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile $(ARGS)

test-slow: $(STAMP) ## run the tests that take minutes each
	$(BIN)/python -m pytest -q -m slow $(ARGS)

test-browser: $(STAMP) ## run the tests that need Chromium and its driver; without them they are skipped
	$(BIN)/python -m pytest -q -m browser $(ARGS)

lint: $(STAMP) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## put all files into the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## build the documentation into site/; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(STAMP) ## measure, and say on what machine; what is printed goes to benchmarks/figures/ and the documentation
	@mkdir -p benchmarks/figures; set -o pipefail; for script in benchmarks/*.py; do echo "$(BIN)/python $$script"; \
	  $(BIN)/python $$script | tee benchmarks/figures/$$(basename $$script .py).txt || exit 1; done

peers: .venv-peers/.installed ## make .venv-peers/ with the original DeepFinder, for the benchmarks (Python 3.11)

.venv-peers/.installed: benchmarks/peers.txt
	@$(PEERS_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo 'error: the peers need Python 3.11; name it with make peers PEERS_PYTHON=…' >&2; exit 1; }
	$(PEERS_PYTHON) -m venv --clear .venv-peers
	.venv-peers/bin/python -m pip install -qq --no-deps -r benchmarks/peers.txt
	@touch $@

weights: $(STAMP) ## train the demo's weights anew (an hour or more)
	$(BIN)/deepfinder simulate training -o weights-run/scenes --overwrite
	$(BIN)/deepfinder train demo --data weights-run/scenes -o weights-run/demo --overwrite
	cp weights-run/demo/best.safetensors deepfinder_dask/networks/pretrained/demo.safetensors

clean: ## remove caches and the demo's output; .venv/ stays
	rm -rf demo site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find deepfinder_dask tests -name __pycache__ -type d -prune -exec rm -rf {} +
