# `make demo` installs and runs the quickstart, `make test` installs and runs the tests but the long ones,
# `make test-long` runs those: sweeps that are killed, simulations, properties on many examples.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := cvfp-runs/quickstart

.PHONY: demo test test-long coverage benchmarks docs messages results schemas clean

demo: $(VENV)/.train
	$(BIN)/cvfp quickstart --out $(DEMO)

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not long"

test-long: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m long --hypothesis-profile many

# All tests, and which lines of the source they run; fewer than `fail_under` of pyproject.toml are an error.
coverage: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --cov=cvfp --cov-report=term:skip-covered

# Prints the table of ratios; a GPU's: `.venv/bin/python -m benchmarks --device cuda`.
benchmarks: $(VENV)/.train
	$(BIN)/python -m benchmarks

# The documentation site, into build/site; needs no network. A link or an anchor that leads nowhere is an error.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

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

# Brings the catalogues of the report's languages up to date with the texts in the source.
messages: $(VENV)/.dev
	mkdir -p build
	$(BIN)/pybabel -q extract -F babel.cfg -k N_ --no-location --omit-header -o build/cvfp.pot src/cvfp
	for po in src/cvfp/report/locale/*.po; do $(BIN)/pybabel -q update -i build/cvfp.pot -o $$po \
	    -l $$(basename $$po .po) -w 110 --omit-header --no-fuzzy-matching --ignore-obsolete || exit 1; done

# Writes the kept reports of docs/results again from their records; a test holds them to it.
results: $(VENV)/.train
	for sweep in $$(dirname docs/results/*/plan.json); do $(BIN)/cvfp report $$sweep --lang ja || exit 1; done
	$(BIN)/cvfp compare docs/results/v1 docs/results/v2 docs/results/v3 --out docs/results/versions
	$(BIN)/cvfp published > docs/results/published.md

# Writes the JSON Schemas of sweep files and records again from their models; a test holds them to those.
schemas: $(VENV)/.dev
	$(BIN)/python -m cvfp.lab.json_schema

clean:
	rm -rf $(VENV) cvfp-runs build dist
