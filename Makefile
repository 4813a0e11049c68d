# Needs only make and Python 3.11 or newer. Everything is installed into .venv, nothing elsewhere.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DELETE_ON_ERROR:
.PHONY: help python demo test lint bench clean

help:
	@echo 'make demo     run examples/demo.py; installs nothing'
	@echo 'make test     run the tests              (ARGS="--loop=uvloop -k read" to choose)'
	@echo 'make lint     ruff, ruff format, mypy'
	@echo 'make bench    measure, beside others     (ARGS="--quick echo-50" to choose)'
	@echo 'make clean    remove .venv, .venvs and caches'
	@echo 'PYTHON=python3.13 chooses the interpreter; run make clean when you change it.'

python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo 'netio: no $(PYTHON) here; set PYTHON to a Python 3.11 or newer' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = "%d.%d.%d" % sys.version_info[:3]; \
	  sys.exit(None if sys.version_info >= (3, 11) else \
	  "netio: needs Python 3.11 or newer, but $(PYTHON) is %s; try: make PYTHON=python3.12 ..." % v)'

demo: python
	@PYTHONPATH=. $(PYTHON) examples/demo.py

# Each stamp says that what it is named after is installed, as pyproject.toml has it.
# pip before 25.1 does not know --group.
$(VENV)/.stamp: pyproject.toml | python
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.stamp-%: $(VENV)/.stamp
	@echo "installing netio and the group '$*' into $(VENV)"
	@$(PIP) install --editable . --group $*
	@touch $@

# Kept: make would delete them as intermediate files.
.PRECIOUS: $(VENV)/.stamp-%

test: $(VENV)/.stamp-test
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.stamp-lint
	@failed=; for check in 'ruff check' 'ruff format --check' 'mypy --strict'; do \
	  echo "$$check"; $(BIN)/python -m $$check || failed="$$failed [$$check]"; \
	done; [ -z "$$failed" ] || { echo "lint failed:$$failed" >&2; exit 1; }

bench: $(VENV)/.stamp-benchmarks
	@$(BIN)/python tests/benchmarks $(ARGS)

clean:
	@rm -rf $(VENV) .venvs .ci/logs build dist htmlcov .coverage \
	  .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
