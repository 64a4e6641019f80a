# Headwater: everything a newcomer types. `make quickstart` and `make test` each start from a bare clone.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: quickstart setup check test test-all bench clean

quickstart: setup  ## the whole chain on the embedded default: crawl ... PPO, scores, and a model that answers
	$(BIN)/headwater run
	$(BIN)/headwater chat -m "hello"

setup: $(READY)  ## the virtual environment, from the lock file

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	$(BIN)/python -m components.training.warm
	touch $(READY)

check: setup  ## format, lint, strict types, import rule, frozen CLI and config surface
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_architecture.py tests/test_surface.py

test: setup  ## the tests, under 25 minutes on 2 cores
	$(BIN)/pytest

test-all: setup  ## the slow ones too
	$(BIN)/pytest -m "not gpu and not bench"

bench: setup  ## side by side with peers; prints ratios, fails on nothing
	$(BIN)/pytest -m bench -s tests/bench

clean:  ## removes the environment and caches; keeps .headwater, where the runs are
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info build dist
	find components pipelines conf tests -name __pycache__ -type d -prune -exec rm -rf {} +
