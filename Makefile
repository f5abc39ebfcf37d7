# Two commands do everything on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV ?= .venv
EXPERIMENT ?= experiments/digits/low_data/base
SEEDS ?= 3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup run test test-gpu campaign matrix lint bench screenshots data notebooks clean

help: ## show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo
	@echo "  make run EXPERIMENT=experiments/swiss_roll/low_data/x5 SEEDS=10"

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not installed; install Python 3.10 or newer, or set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

setup: $(STAMP) ## make .venv and install everything into it

run: $(STAMP) ## run EXPERIMENT (digits by default) for SEEDS pairs of seeds, and analyze
	$(BIN)/minima-volume pipeline $(EXPERIMENT) --seeds $(SEEDS)

test: $(STAMP) data ## run all tests (doctests and notebooks too)
	OMP_NUM_THREADS=1 MINIMA_VOLUME_DATA=$(CURDIR)/data $(BIN)/python -m pytest -q --numprocesses=2 --dist=loadfile --ignore=tests/runs/test_smoke.py
	OMP_NUM_THREADS=1 MINIMA_VOLUME_DATA=$(CURDIR)/data $(BIN)/python -m pytest -q --numprocesses=2 tests/runs/test_smoke.py

campaign: $(STAMP) ## attack files, configs, folders, writes and processes (about an hour), and count
	OMP_NUM_THREADS=1 PYTHONPATH=tests MINIMA_VOLUME_DATA=$(CURDIR)/data $(BIN)/python -m campaigns

test-gpu: $(STAMP) data ## on a machine with a GPU: run the tests that need one, then measure (8 minutes)
	OMP_NUM_THREADS=1 MINIMA_VOLUME_DATA=$(CURDIR)/data $(BIN)/python benchmarks/gpu.py

matrix: $(STAMP) ## quick tests on Python 3.10 to 3.13 with the oldest and the newest torch; says what is missing
	$(BIN)/nox

lint: $(STAMP) ## check style, notebooks, types and the order of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(STAMP) ## measure the loss engine against the published loop (about 10 minutes)
	$(BIN)/python benchmarks/engine.py

screenshots: $(STAMP) ## run a condition's notebooks in JupyterLab in a browser, and save a picture of each under screenshots/
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[screenshots]'
	$(BIN)/python tests/screenshots.py

data: $(STAMP) ## place real MNIST and Fashion-MNIST under data/
	$(BIN)/python tests/place_data.py

notebooks: $(STAMP) ## rewrite the notebooks of templates and experiments from minima_volume/notebooks/
	$(BIN)/python -c 'from minima_volume.runs.notebooks import record_versions; record_versions()'
	$(BIN)/minima-volume notebooks experiments

clean: ## remove .venv and caches; runs and data stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
