# Everything a newcomer types. Each target sets up what it needs; a second run installs nothing.
VENV := .venv
PYTHON ?= python3
INSTALLED := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# No call home, no questions: the pipeline works without a network.
export DVC_NO_ANALYTICS := 1
export HF_HUB_DISABLE_TELEMETRY := 1

# The tests of a file run in one process, because they share what is costly; the slow ones start first
# (tests/conftest.py).
JOBS ?= 2
IN_PARALLEL = --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup repro serve test test-fast browser label-studio lint docs lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: $(INSTALLED) ## create .venv and install the pinned packages

# What is installed is what the lock file says; only a change of it (or of the package's own set-up) installs it again.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "koner needs Python 3.11 or later; this is " + sys.version.split()[0])'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

repro: $(INSTALLED) ## run the pipeline, from the source to a packaged model: dvc repro
	dvc repro

serve: $(INSTALLED) ## serve the model that dvc.lock pins: POST http://127.0.0.1:8000/infer
	@python -m app

test: $(INSTALLED) browser label-studio ## run all tests, in two processes; `make test JOBS=4` for more
	pytest $(IN_PARALLEL)

test-fast: $(INSTALLED) ## run the tests that take seconds, before a commit
	pytest $(IN_PARALLEL) -m 'not slow'

# The page is tested in a real browser and services behind a real nginx: Debian's, where they can be installed; without
# them those tests are skipped. RUNLEVEL=1 keeps nginx's own server from being started.
browser:
	@( PATH="$$PATH:/usr/sbin"; command -v chromium && command -v chromedriver && command -v nginx ) >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	  RUNLEVEL=1 apt-get install -y -qq --no-install-recommends chromium chromium-driver nginx >/dev/null; } || \
	  echo 'not all of chromium, chromium-driver and nginx are here: the tests that need them will be skipped' >&2

# The loop of annotation is tested with the real Label Studio, in an environment of its own in ~/.cache/koner-tests.
label-studio: $(INSTALLED)
	@python -m tests.annotation.label_studio_server

lint: $(INSTALLED) ## check style, types and the order of imports
	ruff check .
	ruff format --check .
	mypy
	lint-imports

docs: $(INSTALLED) ## write the documentation site to site/
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

lock: ## write requirements.lock, and stages/versions.yaml from it
	rm -rf $(VENV).lock && $(PYTHON) -m venv $(VENV).lock
	$(VENV).lock/bin/python -m pip install --quiet torch==2.13.0
	$(VENV).lock/bin/python -m pip install --quiet '.[dev]'
	( echo '# The versions that are installed and tested: `make lock` writes this file.'; \
	  $(VENV).lock/bin/python -m pip freeze --exclude koner | sed -E 's/^(torch==[0-9.]+)\+cpu/\1/' ) > requirements.lock
	$(VENV).lock/bin/python -m koner.versions
	rm -rf $(VENV).lock

clean: ## remove what the pipeline and the tools leave behind, the environment too
	rm -rf $(VENV) data models .pytest_cache .mypy_cache .ruff_cache .hypothesis site
