# Each target sets itself up: a fresh machine needs Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint types clean

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[benchmarks,dev]'
	touch $@

demo: $(READY)
	$(BIN)/ssad demo --out demo-run

# The fast tests first, so that a mistake shows within a minute.
test: $(READY)
	$(BIN)/python -m pytest -m 'not slow'
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo-run
