# Every target sets up what it needs in .venv, on a machine that has Python >= 3.11 and make.
#
#   PYTHON=python3.12   the interpreter to build .venv from
#   WORKERS=2           test processes; each may take several GiB
#   PYTEST_ARGS=...     handed to pytest, as in `make test PYTEST_ARGS="tests/test_project.py -x"`
#
# pip's own settings (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS ...) are obeyed, which is how a
# machine without a GPU gets the smaller CPU build of torch.

VENV := .venv
PY := $(VENV)/bin/python
SETUP := PYTHON="$(PYTHON)" VENV="$(VENV)" scripts/setup_venv.sh
SOURCES := pyproject.toml constraints.txt scripts/setup_venv.sh scripts/setup_browser.sh codeczoo/version.py

WORKERS ?= 2
PYTEST_ARGS ?=
# Tests and demo download nothing, and the hub's client is told so. One thread a worker: more would fight over cores.
ENV := HF_HUB_OFFLINE=1
TEST_ENV := $(ENV) OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST := $(TEST_ENV) $(PY) -m pytest -n $(WORKERS) --dist worksteal --durations 15

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-full docs lint format release-check clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 18

demo: $(VENV)/.runtime  ## benchmark zoo_16k and the classical codecs on the embedded clips, and make a page; offline after the install
	$(ENV) $(PY) benchmarking.py --overwrite --save-audio || [ $$? -eq 4 -o $$? -eq 5 ]  # 4: some metric is undefined on some clip (silence has no pitch); 5: PESQ, say, is not installed
	@echo "the page to open, with a table and players:"
	@$(ENV) $(PY) -m codeczoo report results --out results/page

test: $(VENV)/.dev  ## run the tests, without those marked slow
	$(PYTEST) $(PYTEST_ARGS)

test-full: $(VENV)/.dev  ## run all tests
	$(PYTEST) -m "slow or not slow" $(PYTEST_ARGS)

docs: $(VENV)/.docs  ## the docs site, in site/; strict, and offline after the install
	$(ENV) NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build
	@echo "open site/index.html; with search: $(PY) -m http.server -d site"

lint: $(VENV)/.dev  ## ruff, mypy, which room may import which, and the workflows (by actionlint too, if it is there)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-logo
	$(PY) -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@if command -v actionlint >/dev/null; then actionlint; fi

format: $(VENV)/.dev  ## put the code into ruff's format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

release-check: $(VENV)/.dev  ## build, check the archives and their content, install the wheel by itself and use it
	$(PY) -m scripts.release_check $(RELEASE_ARGS)

clean:  ## remove the virtual environment, caches and builds; results/ stays
	rm -rf $(VENV) build dist site .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp says that an install is complete and no older than what it was made from. The development install
# contains the other ones.
$(VENV)/.runtime: $(SOURCES)
	@$(SETUP) runtime
	@touch $@

$(VENV)/.docs: $(SOURCES)
	@$(SETUP) docs
	@touch $@

$(VENV)/.dev: $(SOURCES)
	@$(SETUP) dev
	@touch $(VENV)/.runtime $(VENV)/.docs $@
