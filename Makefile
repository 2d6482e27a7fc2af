# `make play` and `make test` do all the set-up they need; everything is installed into .venv, in the versions of constraints.txt.

VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check
TESTS  ?=

MEASURED := tests/broker tests/log tests/properties tests/takes tests/replay tests/test_auditing.py tests/stage/test_anchoring.py \
	tests/band/test_forget.py tests/band/test_retention.py tests/band/test_object_store.py tests/band/test_the_past.py tests/cli/test_trim.py \
	tests/band/test_motifs.py tests/band/test_changed_motif.py tests/conformance/test_motifs.py tests/conformance/test_tables.py
# Processes share the tests: one has all that play on Ray, and mostly waits for it.
SHARED   := -n 3 --dist loadgroup
MEASURE  := --cov=ensemble.broker --cov=ensemble.log --cov-branch --cov-report=term --cov-fail-under=95

.PHONY: help setup play test clusters coverage lint types docs notebooks notebooks-write bench pictures clean

help:
	@echo "make play       play the ACME shop's real orders"
	@echo "make test       run the tests but those of the docs' code (TESTS='tests/cli -k run' runs some, TESTS=--everywhere all, to the last)"
	@echo "make clusters   run those that start clusters of Ray's, speak to them by commands, and kill their nodes"
	@echo "make lint       check style; make types: check types; make docs: run the code in the docs"
	@echo "make coverage   the tests of the broker and the log, with the share of lines and branches that they reach (95 % at least)"
	@echo "make notebooks  play the notebooks from top to bottom, in a copy; make notebooks-write: and keep what they show in the files"
	@echo "make pictures   draw the pictures of the docs anew"
	@echo "make bench      measure speed; make setup: only make .venv; make clean: remove .venv and what tools left behind"

# Compiled here, since with PYTHONDONTWRITEBYTECODE each of hundreds of processes would compile all of it for itself.
setup: $(READY)
	@$(BIN)/python -m compileall -q ensemble players visualize

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: Ensemble needs Python 3.11 or newer, and found none (python3 is" \
		"$$(python3 --version 2>&1)). Install one, or say which: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version); about a minute, once ..." >&2
	@$(PYTHON) -m venv $(VENV) >$(VENV).log 2>&1 || { cat $(VENV).log >&2; rm -rf $(VENV).log; echo \
		"make: $(PYTHON) can't make a virtual environment. On Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	@rm -f $(VENV).log
	@$(PIP) install -c constraints.txt hatchling editables
	@$(PIP) install --no-build-isolation -c constraints.txt -e '.[dev]'
	@touch $(READY)

play: setup
	@$(BIN)/ensemble run scores/acme_fitness.yaml

# The tests but the code in the docs, as far as one waits for (CONTRIBUTING.md).
test: setup
ifeq ($(TESTS),)
	@$(BIN)/pytest $(SHARED) -m "not own_cluster" --ignore=tests/test_docs.py
else
	@$(BIN)/pytest $(TESTS)
endif

# Apart from the tests, which share one cluster: these start some, speak to them from other processes, and kill nodes and all.
clusters: setup
	@$(BIN)/pytest -m own_cluster tests/cli/test_cluster.py tests/faults/test_ray_clusters.py

# Apart from the tests, since measuring makes them take twice as long. Searches for planted bugs reach nothing that others don't,
# and what plays on Ray, or is killed, does so in processes that are not measured.
coverage: setup
	@$(BIN)/pytest $(SHARED) -m "not planted and not on_ray" --ignore=tests/log/faults $(MEASURED) $(MEASURE)

lint: setup
	@$(BIN)/ruff check .

types: setup
	@$(BIN)/mypy

docs: setup
	@$(BIN)/pytest $(SHARED) tests/test_docs.py

notebooks: setup
	@$(BIN)/python notebooks/play.py

notebooks-write: setup
	@$(BIN)/python notebooks/play.py --write

bench: setup
	@$(BIN)/python benchmarks/chain.py

# The orders of the timeline are those of a day, and its times are those of this machine.
pictures: setup
	@$(BIN)/ensemble graph scores/acme_fitness.yaml -o docs/acme.svg
	@rm -rf .ensemble/pictures
	@ACME_INPUT=data/acme_small.jsonl.gz ACME_FLAKY=0.3 $(BIN)/ensemble run scores/acme_fitness.yaml --store .ensemble/pictures --json >/dev/null
	@$(BIN)/ensemble timeline --store .ensemble/pictures --key walter-1 -o docs/order.svg
	@$(BIN)/python docs/terminal.py docs/terminal.svg

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build dist
