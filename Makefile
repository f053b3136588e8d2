# Each target sets itself up: a fresh machine needs Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
FUZZ ?= 500
READY := $(VENV)/.ready

.PHONY: demo test drill lint types clean

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[benchmarks,dev]'
	touch $@

demo: $(READY)
	$(BIN)/ssad demo --out demo-run

# The fast tests first, so that a mistake shows early. Several processes with one thread each finish sooner than one
# process with several threads, because most tests are too small for threads; the tests of a file stay in one process,
# because they share what the file trains once.
test drill: export OMP_NUM_THREADS = 1
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test: $(READY)
	$(PYTEST) -m 'not slow and not drill'
	$(PYTEST) -m 'slow and not drill'

# What takes too long for every change: commands that are killed, disks that fail. Prints a table of what was tried, and
# with DRILL=--drill-table writes it into docs/reliability.md.
drill: $(READY)
	$(PYTEST) -m drill --fuzz $(FUZZ) $(DRILL)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=. $(BIN)/lint-imports --no-cache

types: $(READY)
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo-run
