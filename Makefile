# Everything is set up by the targets themselves, into .venv; a second call does no work twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRA := $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
RUN ?= runs/bench

.PHONY: help setup bench gpu test lint format clean

help:
	@echo "make bench   quick sweep of all models, then the HTML report"
	@echo "make gpu     CUDA tests and the gpu suite with the PYTHON that has torch; installs nothing (MINUTES=8, OUT=runs/gpu)"
	@echo "make test    all tests but the slow ones"
	@echo "make lint    ruff and mypy"
	@echo "make format  let ruff format the code"
	@echo "make clean   remove .venv, caches and runs/"

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "expected Python 3.11 or newer, got %d.%d; call make PYTHON=python3.12" % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,$(EXTRA)]'
	@touch $@

# An unfinished sweep is taken up again; a finished one is kept until `rm -r runs/bench` or another RUN=folder.
bench: setup
	@$(BIN)/mann-bench run quick --out $(RUN) $$(test -f $(RUN)/run.json && echo --resume)
	@$(BIN)/mann-bench report $(RUN)

gpu:
	@PYTHON=$(PYTHON) .ci/gpu

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis runs
