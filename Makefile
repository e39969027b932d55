# Needs Python 3.11 to 3.13, make and a network to a package index; everything else goes into .venv.
PYTHON ?= python3
PROFILE ?= quick
BUDGET ?= 9m

BIN := .venv/bin
INSTALLED := .venv/.installed
CHECK_PYTHON = $(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else \
  "kdlib needs Python 3.11 to 3.13, but $(PYTHON) is %d.%d. Name another: make setup PYTHON=python3.12" % v)'

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile
	@echo "  variables: PROFILE=quick|paper|real-small|confirm|trifeature|ablations|FILE (reproduce), BUDGET=9m RUNS_DIR=FOLDER (paper-gpu), PYTHON=python3.12 (setup)"

setup: $(INSTALLED)  ## make the environment in .venv (about 6 GB with the CUDA libraries of Linux)

reproduce: $(INSTALLED)  ## train what is missing, then run every notebook
	$(BIN)/python -m kdlib reproduce --profile $(PROFILE)

# Status 3 says that the budget is used up, as planned.
paper-gpu: $(INSTALLED)  ## train the next missing runs of the paper's studies on a GPU until BUDGET is used up; again and again
	$(BIN)/python -m kdlib train --profile paper --device cuda --budget $(BUDGET) \
	  $(if $(RUNS_DIR),--runs-dir $(RUNS_DIR)) || [ $$? -eq 3 ]

# Two processes, each file whole in one of them, since its tests share what is made once; the longest goes first.
test: lint  ## lint, then every test that is not marked slow, then the executed notebooks
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 25 --durations-min 5 tests/test_quick_profile.py tests
	@$(MAKE) --no-print-directory test-notebooks

test-notebooks: $(INSTALLED)  ## run the committed executed notebooks again: outputs and saved files are the committed ones
	$(BIN)/python -m pytest -m notebooks -rs tests/test_executed.py

test-slow: $(INSTALLED)  ## the tests marked slow
	$(BIN)/python -m pytest -m slow

test-browser: $(INSTALLED)  ## run every notebook in JupyterLab in a browser; needs Chromium
	$(BIN)/python -m pip list --disable-pip-version-check --format=freeze --exclude-editable >.venv/installed.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-build-isolation -c .venv/installed.txt -e '.[browser]'
	$(BIN)/python -m pytest -m browser -rs tests/browser

bench: $(INSTALLED)  ## race training against torchdistill's and loading against PIL's, about ten minutes; writes benchmarks/results/
	$(BIN)/python -m pip list --disable-pip-version-check --format=freeze --exclude-editable >.venv/installed.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-build-isolation -c .venv/installed.txt -e '.[bench]'
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/loading.py

site: $(INSTALLED)  ## build the website in build/site from docs/ and what reproductions wrote; a warning is an error
	$(BIN)/python tools/website.py
	$(BIN)/python -m sphinx -q -W --keep-going -d build/doctrees build/site-source build/site

lint: $(INSTALLED)  ## ruff over the library, the tests and the notebooks: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .

lab: $(INSTALLED)  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir notebooks

lock: $(INSTALLED)  ## write requirements.lock anew from pyproject.toml; what is pinned stays as it is
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --extra dev \
	  --generate-hashes --no-annotate --no-emit-index-url --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

# A .venv without a working pip is a set-up that was interrupted, or whose Python is gone: it is made anew.
$(INSTALLED): requirements.lock pyproject.toml
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { $(CHECK_PYTHON) && $(PYTHON) -m venv --clear .venv; }
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: help setup reproduce paper-gpu test test-notebooks test-slow test-browser bench site lint lab lock
