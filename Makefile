# `make sweep` and `make test` each work alone on a fresh machine with git, make and Python 3.11 or later.
.DELETE_ON_ERROR:
.PHONY: help setup sweep test lint types docs clean

VENV ?= .venv
EXTRAS ?= dev
ARGS ?=
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed-$(EXTRAS)

help:
	@echo 'make sweep            the default sweep: BC and DAgger, verdicts and a report in runs/sweep'
	@echo 'make sweep ARGS=...   with flags of launch/sweep.py, e.g. ARGS=--budget=smoke'
	@echo 'make test             the test suite'
	@echo 'make lint types       ruff, import-linter and pyright'
	@echo 'make docs             the documentation site, in build/site'
	@echo 'make setup            only the environment in $(VENV); EXTRAS=dev,cuda for a GPU'

setup: $(STAMP)

# Build tools come first and pinned, so that no build is isolated from constraints.txt.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or later is needed; none was found (set PYTHON=...)' >&2; exit 1; }
	"$(PYTHON)" -m venv "$(VENV)"
	"$(PY)" -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel
	"$(PY)" -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[$(EXTRAS)]'
	@touch "$@"

sweep: $(STAMP)
	"$(PY)" launch/sweep.py --algo=bc,dagger $(if $(findstring --env,$(ARGS)),,--env=chain,lane_keep,swing_up) $(ARGS)

test: $(STAMP)
	"$(PY)" -m pytest --numprocesses=auto --maxprocesses=2 --dist=loadfile --no-loadscope-reorder $(ARGS)

lint: $(STAMP)
	"$(PY)" -m ruff check .
	"$(PY)" -m ruff format --check .
	"$(VENV)/bin/lint-imports" --no-cache

types: $(STAMP)
	"$(PY)" -m pyright

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 "$(PY)" -m mkdocs build --strict

clean:
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
