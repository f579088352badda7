# One entry for everything. `make help` lists the targets.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
export PYTHONPATH := $(CURDIR)/tests:$(CURDIR)

# Three processes, each with hosts of its own: most of the time goes by waiting for guests. Files in
# their order, so that the long ones do not come last.
SIDE_BY_SIDE := -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo demo-vsphere test lint testbed testbed-down testbed-vsphere bench soak clean

help:
	@echo "make demo          set up, then replicate a real guest between two hosts and fail over"
	@echo "make demo-vsphere  the same from a simulated vCenter, to KVM and to another one"
	@echo "make test          set up, then lint, type-check and run all tests"
	@echo "make testbed       start two hosts and a guest to try the command line by hand"
	@echo "make testbed-down  remove them"
	@echo "make testbed-vsphere  a simulated vCenter to try things with, until Ctrl-C"
	@echo "make bench         all benchmarks against their peers (ONLY=NAME for one)"
	@echo "make soak          the full crash matrix and long runs"
	@echo "make lint          ruff, mypy, import-linter"

setup:
	@./tools/setup

demo: setup
	@$(PY) -m demo

demo-vsphere: setup
	@$(PY) -m demo.vsphere --points 2

test: setup lint
	@$(PY) -m pytest -q --timeout 300 $(SIDE_BY_SIDE) $(ARGS)

lint: setup
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --config pyproject.toml

testbed: setup
	@$(PY) -m testbeds.kvm up

testbed-down:
	@$(PY) -m testbeds.kvm down

testbed-vsphere: setup
	@$(PY) -m testbeds.vsphere

bench: setup
	@$(PY) -m bench $(ONLY)

soak: setup
	@$(PY) -m pytest -q --timeout 7200 -m soak tests

clean: testbed-down
	rm -rf $(VENV) bench/results .mypy_cache .ruff_cache .pytest_cache
