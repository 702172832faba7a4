# Two commands: `make demo` (install, run the quickstart) and `make test` (install, run all tests).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := cvfp-runs/quickstart

.PHONY: demo test lint clean

demo: $(VENV)/.train
	$(BIN)/cvfp quickstart --out $(DEMO)

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

# The stamp files say what has been installed, so that the second time costs nothing.
$(VENV)/.train: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,dev]'
	touch $@ $(VENV)/.train

clean:
	rm -rf $(VENV) cvfp-runs build dist
