# `make demo` and `make test` are all that a fresh clone needs; both may be repeated at will.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
INPUTS := pyproject.toml constraints.txt

.PHONY: demo test test-fast test-long bench resources lint format clean

demo: $(VENV)/installed-demo
	$(BIN)/python -m examples.digits.demo

test: lint
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not long"

test-fast: $(VENV)/installed-test
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow and not long"

test-long: $(VENV)/installed-test
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m long

bench: $(VENV)/installed-test
	$(BIN)/python -m benchmarks.compile_time
	$(BIN)/python -m benchmarks.rtl_speed
	$(BIN)/python -m benchmarks.simulator --json --write docs/performance.md

resources: $(VENV)/installed-test
	$(BIN)/python -m vta_hw.rtl.resources

lint: $(VENV)/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/installed-test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The stamps are as old as the last installation that went through to its end.
$(VENV)/installed-demo: $(INPUTS) | $(VENV)/bin/python
	@echo "installing into $(VENV) what the demo needs"
	$(PIP) --editable '.[demo]'
	touch $@

$(VENV)/installed-test: $(INPUTS) | $(VENV)/bin/python
	@echo "installing into $(VENV) what the tests need"
	$(PIP) --editable '.[demo,test,rtl,formal,tune,fpga]'
	touch $@ $(VENV)/installed-demo

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache
