# Everything is set up by the targets themselves, into .venv; a second call does no work twice. pip compiles nothing:
# it would take most of its time, and Python does so for what is imported, when it is. Some images of containers forbid Python
# to keep that: here each of some hundred processes would then compile torch again, in more time than it takes to import it.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRA := $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
RUN ?= runs/bench
PAPER ?= runs/paper
SITE ?= site
BASE ?= HEAD~1
CXX_FILES = $(shell find kernels/csrc tests -name "*.h" -o -name "*.cpp" -o -name "*.cu")

.PHONY: help setup cluster-test bench paper results pages check-pages numbers minutes site regress gpu gpu-bundle kernels test test-all lint format docs clean

help:
	@echo "make bench   quick sweep of all models, then the HTML report"
	@echo "make paper   the paper's set-ups, its claims judged, the report; under an hour"
	@echo "make results both of these into docs/results, MACHINE=amd-epyc-2-threads"
	@echo "make pages   the Markdown and PNG of all runs in docs/results anew, and what make numbers writes"
	@echo "make numbers the numbers in README.md and docs/, the tables of keys in docs/suites.md, and the schemas of suites and studies"
	@echo "make minutes how long make test and make regress take here, for the README; on a quiet machine"
	@echo "make check-pages  whether the Markdown of all runs is what the code makes of the data"
	@echo "make site    the pages of all runs in docs/results, with an index, into site/ (SITE=folder)"
	@echo "make regress the last two commits against each other; fails on a regression"
	@echo "make gpu     tests and measurements on a GPU with the PYTHON that has torch; installs nothing"
	@echo "             (STAGES=\"contact first full\", MINUTES=25, ARCHIVE=gpu.tgz, MANN_BENCH_GPU_OUT=runs/gpu)"
	@echo "make gpu-bundle  wheels and GPU kernels to carry to such a machine (ARCH=sm_90, FOR=3.12, PACKAGES=pydantic, ARCHIVE=bundle.tgz)"
	@echo "make test    all tests but the slow ones, side by side on all cores"
	@echo "make test-all  these too, and the 40 that took longest"
	@echo "make cluster-test  installs Slurm (Debian, as root) and tests array jobs on a cluster of two node slots"
	@echo "make kernels  the kernels that tests call, compiled on all cores; make test does it first"
	@echo "make lint    ruff, mypy and clang-format"
	@echo "make format  let ruff and clang-format format the code"
	@echo "make docs    the documentation into docs/_build/html; runs the tutorial notebook"
	@echo "make clean   remove .venv, caches and runs/"

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "expected Python 3.11 or newer, got %d.%d; call make PYTHON=python3.12" % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt --editable '.[dev,$(EXTRA)]'
	@touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@

# An unfinished sweep is taken up again; a finished one is kept until `rm -r runs/bench` or another RUN=folder.
bench: setup
	@$(BIN)/mann-bench run quick --out $(RUN) $$(test -f $(RUN)/run.json && echo --resume)
	@$(BIN)/mann-bench report $(RUN) $(if $(FORMAT),--format $(FORMAT))

gpu:
	@PYTHON=$(PYTHON) .ci/gpu $(STAGES)

gpu-bundle: setup
	@PYTHON=$(CURDIR)/$(BIN)/python .ci/gpu-bundle

paper: setup
	@$(BIN)/mann-bench run paper --out $(PAPER) $$(test -f $(PAPER)/run.json && echo --resume) || test $$? = 1
	@$(BIN)/mann-bench claims $(PAPER)
	@$(BIN)/mann-bench report $(PAPER) $(if $(FORMAT),--format $(FORMAT))

# What docs/results holds of a class of machines; MACHINE names it.
results: setup
	@test -n "$(MACHINE)" || { echo "make results: expected MACHINE=a-name-for-this-class-of-machines, as amd-epyc-2-threads" >&2; exit 2; }
	@$(MAKE) bench RUN=docs/results/quick-$(MACHINE) FORMAT=png
	@$(MAKE) paper PAPER=docs/results/paper-$(MACHINE) FORMAT=png

# What docs/results keeps beside the data; its .gitignore leaves out the rest of a report.
pages: setup
	@for run in $$(dirname docs/results/*/run.json); do rm -rf $$run/report/plots; $(BIN)/mann-bench report $$run --format png || exit; done
	@$(MAKE) numbers

# Whether the committed Markdown is what the code makes of the data, and whether all pages can be made.
check-pages: setup
	@$(BIN)/python -m tests.published.pages

numbers: setup
	@$(BIN)/python -m tests.published.formats
	@$(BIN)/python -m tests.published.numbers

# On a quiet machine; the README then says how long they take.
minutes: setup
	@$(BIN)/python -m tests.published.minutes
	@$(MAKE) numbers

site: setup
	@$(BIN)/mann-bench site docs/results --out $(SITE) $(if $(wildcard .asv/results/benchmarks.json),--history .asv/results)

# asv installs each commit into an environment of its own below .asv/; BASE=commit compares with another one.
regress: setup
	@$(BIN)/asv machine --yes >/dev/null
	$(BIN)/asv continuous --factor 1.15 $(BASE) HEAD

# Kernels are compiled on all cores. Then tests run side by side, one process a core; those that measure real time come after, alone.
PYTEST := $(BIN)/python -m pytest
PARALLEL := -n logical --dist worksteal
TIMED = $(shell grep -rl --include="*.py" "mark\.timed" tests)  # the files alone: to collect all takes as long as the tests

kernels: setup
	$(BIN)/python -m tests.support.builds

test: kernels
	$(PYTEST) $(PARALLEL) -m "not slow and not timed"
	$(PYTEST) -m "timed and not slow" $(TIMED)

test-all: kernels
	$(PYTEST) $(PARALLEL) -m "not timed" --durations=40
	$(PYTEST) -m timed --durations=40 $(TIMED)

cluster-test: setup
	command -v slurmctld >/dev/null || PATH=$$PATH:/usr/sbin command -v slurmctld >/dev/null || { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge; }
	$(PYTEST) -m slow tests/run/test_slurm.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going --quiet -b html docs docs/_build/html

clean:
	rm -rf $(VENV) docs/_build build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .asv runs
