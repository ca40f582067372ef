# Every target makes .venv and installs what constraints.txt pins first, and only where that is not already done.
# ARGS goes to the command: make quickstart ARGS='seed=1', make test ARGS='tests/test_packaging.py -x'.
# Tests run in one process more than there are cores, four at most, since some wait for a cluster or for others;
# ARGS='-n 0 --pdb' runs them in one process.

PYTHON ?= $(shell for p in python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/.installed
COMPILED := .venv/.compiled
WORKERS = $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
# What is installed is compiled when it is first imported: a process that may not keep it compiles all of torch again.
export PYTHONDONTWRITEBYTECODE =

.PHONY: quickstart test lint format bench clean

quickstart: $(STAMP)
	$(BIN)/kws train recipe=quickstart $(ARGS)

test: $(COMPILED)
	OMP_NUM_THREADS=1 PYTEST_XDIST_AUTO_NUM_WORKERS=$(WORKERS) $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

# An error in a test is shown by the test.
$(COMPILED): $(STAMP)
	$(BIN)/python -m tests.compiled >/dev/null && touch $@ || true

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks $(ARGS)

clean:
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find kws hydra_plugins tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Modules are compiled when they are first imported: most of what is installed never is.
# The build tools come first, so that kws and the one dependency without a wheel are built with pinned ones too.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/pip || test -n "$(PYTHON)" || { echo "kws needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --no-compile -c constraints.txt setuptools hatchling editables
	$(BIN)/pip install --no-compile -c constraints.txt --no-build-isolation -e '.[speech,ray,dev]'
	@touch $@
