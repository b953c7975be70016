# Everything here works with nothing but Python 3.11 or newer and make: the first target that needs it makes .venv.
# PYTHON=/path/to/python3 chooses the interpreter; PYTEST_ARGS="-k words" is handed to pytest; ARGS to what is served.

VENV := .venv
BIN := $(VENV)/bin
MAKEFLAGS += --no-print-directory
PYTEST_ARGS ?=
ARGS ?=

# The newest interpreter that works and can make virtual environments (a shim of a version manager may do neither).
CAN := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for each in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	"$$each" -c '$(CAN)' >/dev/null 2>&1 && echo "$$each" && break; done)

.DEFAULT_GOAL := help
.PHONY: help serve test lint format compat-apache bench crash clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: $(VENV)/.installed ## install into .venv and run a NameServer and a broker (ARGS="--data DIR")
	@exec $(BIN)/posthouse serve $(ARGS)

test: lint ## everything that must hold: lint, types, layers, all tests but the slow ones; CI runs this
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev ## rewrite the sources as ruff likes them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

compat-apache: $(VENV)/.installed-dev ## the control: the same client and behaviour tests against Apache RocketMQ itself
	POSTHOUSE_COMPAT_SERVER=apache POSTHOUSE_TEST_SERVER=apache \
		$(BIN)/python -m pytest tests/compat tests/behaviour $(PYTEST_ARGS)

bench: $(VENV)/.installed-dev ## the same load on Posthouse and on Apache RocketMQ (ARGS=--smoke for seconds instead of minutes)
	$(BIN)/python -m bench.run $(ARGS)

crash: $(VENV)/.installed-dev ## kill -9 under load, 500 times over
	$(BIN)/python -m pytest tests/crash --cycles 500 --timeout 0 $(PYTEST_ARGS)

clean: ## remove .venv, caches and what was built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "make: found no Python 3.11 or newer that has venv and ensurepip." >&2; \
		echo "Install one (Debian: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# `pip install --group` came with pip 25.1; a new virtual environment may have an older one.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@
