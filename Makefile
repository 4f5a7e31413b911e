# serve        install if needed, lay out the sample cohort, start the server
# test, check  the tests; ruff, mypy and the import contracts
# docs         the documentation, into site/
# bench        the benchmarks
# experiment   the experiment of docs/results/fair-active-learning.md, from its shards; many hours without
# sample-data  rebuild the committed sample cohort
# clean        remove what these made, except studies/
#
# Everything happens in $(VENV). pip reads its own configuration as always.

PYTHON  ?= python3.11
VENV    ?= .venv
HOST    ?= 127.0.0.1
PORT    ?= 8000
STUDIES ?= studies/sample
CONF    ?=

SHELL := /bin/bash
PY    := $(VENV)/bin/python
PIP   := $(PY) -m pip install --constraint constraints.txt

# An installation holds as long as what it was made from. The stamp is written last, so that one
# that was interrupted is done again.
KEY   := $(shell cat setup.cfg constraints.txt 2>/dev/null | sha256sum | cut -c1-12)
STAMP := $(VENV)/.installed-$(KEY)

.DEFAULT_GOAL := help
.PHONY: help serve install test check docs bench experiment sample-data clean

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

# ---------------------------------------------------------------- environment

install: $(STAMP)-serve

# sam2, which MONAI Label requires, is a source package that compiles against torch. Built apart
# from the rest, it would download a second torch, the newest and largest, and throw it away.
$(STAMP)-serve:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "Python 3.11 is needed; PYTHON=$(PYTHON) is another or is missing." >&2; exit 1; }
	@echo "Installing into $(VENV). This takes some minutes, once."
	$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(PIP) --quiet --upgrade pip setuptools wheel
	$(PIP) --quiet torch torchvision numpy
	SAM2_BUILD_CUDA=0 $(PIP) --quiet --no-build-isolation sam2
	$(PIP) --quiet --editable .
	@touch $@

# Every extra is added to the same environment.
$(STAMP)-test: $(STAMP)-serve
	$(PIP) --quiet --editable '.[test,synthetic,report,viewer,pacs,cluster]'
	@touch $@

$(STAMP)-docs: $(STAMP)-serve
	$(PIP) --quiet --editable '.[docs]'
	@touch $@

$(STAMP)-synthetic: $(STAMP)-serve
	$(PIP) --quiet --editable '.[synthetic]'
	@touch $@

# ---------------------------------------------------------------- what people run

serve: export HOST := $(HOST)
serve: export PORT := $(PORT)
serve: export STUDIES := $(STUDIES)
serve: export CONF := $(CONF)
serve: $(STAMP)-serve
	@exec bash scripts/serve.sh $(PY)

test: $(STAMP)-test
	OMP_NUM_THREADS=1 $(PY) -m pytest $(ARGS)

check: $(STAMP)-test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

docs: $(STAMP)-docs
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

# The other files of benchmarks/ are what these import.
BENCHMARKS := segmentation_cost scoring_methods gpu_scoring gpu_feeding training_wait cluster_scaling \
	bookkeeping next_sample answers_under_load many_readers stock_faults pacs review_page

bench: $(STAMP)-test
	@for name in $(BENCHMARKS); do \
		echo "== benchmarks/$$name.py"; $(PY) "benchmarks/$$name.py" || exit 1; done

# What is done already is taken from the committed shards; without them this takes some nine hours on two cores.
experiment: $(STAMP)-test
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" bash scripts/run_experiment.sh

sample-data: $(STAMP)-synthetic
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" bash sample-data/rebuild.sh

clean:
	rm -rf $(VENV) site build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
	find . -name __pycache__ -type d -not -path './studies/*' -prune -exec rm -rf {} +
