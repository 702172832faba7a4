# `make demo` installs and runs the quickstart, `make test` installs and runs the tests but the long ones,
# `make test-long` runs those: sweeps that are killed, simulations, properties on many examples.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Python compiles what is imported, once; pip would compile all, which takes two thirds of an installation.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
unexport PYTHONDONTWRITEBYTECODE
DEMO := cvfp-runs/quickstart
LIGHT := tests/test_scaling_*.py tests/test_report_*.py tests/test_records_metrics.py tests/test_records_settings.py

.PHONY: demo install lint lint-systems test test-light test-long coverage benchmarks docs wheel release messages results schemas clean

demo: $(VENV)/.train
	$(BIN)/cvfp quickstart --out $(DEMO)

# All that work on cvfp needs; each of the others installs what it needs by itself.
install: $(VENV)/.dev

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error

# Types under the standard libraries of Windows and macOS, where not all of Linux's is.
lint-systems: $(VENV)/.dev
	$(BIN)/basedpyright --level error --pythonplatform Windows
	$(BIN)/basedpyright --level error --pythonplatform Darwin

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not long"

# The tests of the analysis and its reports, which need no torch.
test-light: $(VENV)/.light
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not long" $(LIGHT)

test-long: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m long --hypothesis-profile many

# All tests, and which lines of the source they run; fewer than `fail_under` of pyproject.toml are an error.
coverage: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --cov=cvfp --cov-report=term:skip-covered

# Prints the table of ratios; a GPU's: `.venv/bin/python -m benchmarks --device cuda`.
benchmarks: $(VENV)/.train
	$(BIN)/python -m benchmarks

# The documentation site, into build/site; needs no network. A link or an anchor that leads nowhere is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

# An older pip does not know --group.
$(VENV)/.pip: | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet 'pip>=25.1'
	touch $@

# The stamp files say what has been installed, so that the second time costs nothing.
$(VENV)/.train: pyproject.toml constraints.txt | $(VENV)/.pip
	$(INSTALL) --editable '.[train]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.pip
	$(INSTALL) --editable '.[all]' --group dev
	touch $@ $(VENV)/.train $(VENV)/.light $(VENV)/.docs $(VENV)/.package

$(VENV)/.light: pyproject.toml constraints.txt | $(VENV)/.pip
	$(INSTALL) --editable . --group test
	touch $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/.pip
	$(INSTALL) --editable . --group docs
	touch $@

$(VENV)/.package: pyproject.toml constraints.txt | $(VENV)/.pip
	$(INSTALL) --group package
	touch $@

# The sdist and the wheel, into dist/.
wheel: $(VENV)/.package
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .

# Builds and checks what a release would be, and says what is missing and what would be uploaded; uploads nothing.
release: wheel
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python .ci/release.py dist

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
