# 《你好，语言模型》: everything a reader, a learner or a maintainer runs. `make help` lists it.
#
#   PYTHON=python3.12 make book          another interpreter for a new .venv
#   PIP_ARGS='-e .[lab,book,test]' …     other packages than the pinned ones

PYTHON   ?= python3
PIP_ARGS ?= -r requirements.txt
PORT     ?= 8000

VENV  := .venv
PY    := $(VENV)/bin/python
STAMP := $(VENV)/.installed
HTML  := _build/html
# What the build writes. Beside it lie the environments of `make test-colab` and its like.
BUILT := $(HTML) _build/.doctrees _build/jupyter_execute

# One thread and fixed hashes: the last digit of a sum depends on how it is split.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONHASHSEED=0
# The plainest arithmetic torch has, to stand for another CPU type.
PORTABLE   := ATEN_CPU_CAPABILITY=default DNNL_MAX_CPU_ISA=SSE41
NBVAL      := $(ONE_THREAD) $(PY) -m pytest --nbval --nbval-current-env --dist loadfile -n 2 chapters

# Each way of coming to lmlib, tried in an environment of its own under _build/ways.
COLAB ?= 3.13 3.12
UV    := $(VENV)/bin/uv
WAYS   = $(ONE_THREAD) $(PY) -m tools.ways

.DEFAULT_GOAL := help
.PHONY: help book test lint unit nbval site site-zip test-portable test-colab test-oldest test-newest test-wheel test-gpu mutation bench serve lab notebooks data sources assets models picture lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 10) else "Python 3.10 or newer is needed, this is %d.%d; try: make PYTHON=python3.12 …" % v[:2])'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)
	@touch $@

$(UV): | $(STAMP)
	$(PY) -m pip install --quiet uv

book: $(STAMP) ## build the site in _build/html (sets up .venv by itself)
	@# Sphinx writes a page again when its source changes, not when its neighbours in the book do.
	@if [ _toc.yml -nt $(HTML)/index.html ] || [ _config.yml -nt $(HTML)/index.html ]; then rm -rf $(BUILT); fi
	$(VENV)/bin/jupyter-book build . -W -n --keep-going --quiet
	@echo "The book is built: $(HTML)/index.html (make serve shows it)"

test: lint unit nbval book site ## run everything: style, unit, parity, JavaScript, all chapters, the site in a browser

lint: $(STAMP) ## ruff, ruff format and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

unit: $(STAMP) ## unit, parity and JavaScript tests
	$(ONE_THREAD) $(PY) -m pytest -q -n 2 --dist loadfile tests --ignore tests/site

nbval: $(STAMP) ## run every chapter and compare every text output with the stored one
	$(NBVAL) -q

site: book ## operate the built site in a real browser
	$(ONE_THREAD) $(PY) -m pytest -q -n 2 --dist worksteal tests/site

site-zip: book ## pack the built site as one zip that opens without a server, and offer it on its first page
	$(PY) -m tools.site_zip

test-portable: $(STAMP) ## the chapters once more, with the arithmetic of another CPU type
	$(PORTABLE) $(NBVAL) -q

test-colab: $(STAMP) $(UV) ## install and run every chapter in what Colab has, today and before (COLAB=3.12 PYTHON312=…)
	for image in $(COLAB); do $(WAYS) colab --python $$image $(WAYS_ARGS) || exit; done

test-oldest: $(STAMP) $(UV) ## chapters and unit tests with the lowest version of each dependency (WAYS_ARGS='--chapters 01')
	$(WAYS) oldest $(WAYS_ARGS)

test-newest: $(STAMP) $(UV) ## chapters and unit tests with the newest version of each dependency
	$(WAYS) newest $(WAYS_ARGS)

test-wheel: $(STAMP) $(UV) ## the built package in an empty environment, without a network
	$(WAYS) wheel $(WAYS_ARGS)

test-gpu: $(STAMP) ## the chapters that move to a GPU, on this machine's or on a pretended one
	$(WAYS) gpu $(WAYS_ARGS)

mutation: $(STAMP) ## seed mistakes one at a time in a copy: the tests must catch each (MUTATION_ARGS=--list)
	$(ONE_THREAD) PYTHONPATH=tests $(PY) -m mutation $(MUTATION_ARGS)

bench: $(STAMP) ## speed and memory beside transformers, tokenizers and torch, with two threads (BENCH_ARGS=--quick)
	OMP_NUM_THREADS=2 $(PY) -m benchmarks.harness $(BENCH_ARGS)

serve: book ## serve the built site on http://localhost:8000 (PORT=…)
	$(PY) -m http.server --bind 127.0.0.1 --directory $(HTML) $(PORT)

lab: $(STAMP) ## open the chapters in JupyterLab
	$(PY) -m jupyterlab chapters

notebooks: $(STAMP) ## run every chapter the one canonical way and store its outputs
	$(ONE_THREAD) $(PY) tools/notebooks.py

assets: $(STAMP) ## remake the vocabulary and the font subset
	$(PY) -m lmlib.recipes.vocab
	$(PY) -m lmlib.recipes.font_subset

data: $(STAMP) ## fetch and prepare every corpus (125 MB; afterwards no network is needed)
	$(ONE_THREAD) $(PY) -m lmlib.datasets

sources: $(STAMP) ## fetch the packages that shipped files were made of (97 MB; only tests that make them again read them)
	$(ONE_THREAD) $(PY) -m lmlib.recipes.sources

models: $(STAMP) ## retrain every shipped model from scratch and print the metrics (MODELS_ARGS=--table only prints)
	$(ONE_THREAD) $(PY) -m lmlib.recipes.models $(MODELS_ARGS)

picture: book ## take the README's picture from the built site
	$(PY) -m tools.picture

lock: $(STAMP) $(UV) ## resolve pyproject.toml anew and write requirements.txt
	$(PY) tools/lock.py

clean: ## remove what was built, caches and .venv
	rm -rf _build build dist $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
