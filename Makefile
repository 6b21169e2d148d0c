# make demo | test | lint     The first call installs into .venv/; later calls do not.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# One thread per process: more make small networks slower wherever cores are shared.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint clean

demo: .venv/.installed
	$(BIN)/ddpm-shortcut demo

test: .venv/.installed-test
	$(BIN)/python -m pytest -n 2

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# torch comes alone and pinned: resolved together with the rest, pip may pick another build of it.
.venv/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch==2.13.0
	touch $@

.venv/.installed: .venv/.torch pyproject.toml
	$(PIP) --editable .
	touch $@

.venv/.installed-test: .venv/.torch pyproject.toml
	$(PIP) --editable '.[test]'
	touch .venv/.installed $@

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
