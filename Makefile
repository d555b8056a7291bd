# README's two commands are `make demo` and `make test`; both do all the set-up that they need.
SHELL := /bin/bash
PYTHON ?= python3
export UV_PYTHON_DOWNLOADS := never
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
BIN := .venv/bin

.PHONY: demo test lint types bench bench-decisions sim check clean

demo: .venv/.ready
	$(BIN)/crossfade demo $(ARGS)

# What loads real processes with traffic runs alone: two of them at once would only measure each other.
LOADED := assignment chaos drill faults fleet load notices sabotage several
ALONE := $(LOADED:%=tests/e2e/test_e2e_%.py) tests/load tests/tripsearch tests/app/test_demo_end_to_end.py

test: .venv/.ready
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow" $(ARGS)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m slow --durations=5 $(addprefix --ignore=,$(ALONE)) $(ARGS)
	$(BIN)/python -m pytest -q -m slow --durations=20 $(ALONE) $(ARGS)

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/.ready
	$(BIN)/mypy

bench: .venv/.ready
	set -e; for file in $(filter-out benchmarks/decisions.py,$(wildcard benchmarks/*.py)); do echo "## $$file"; $(BIN)/python "$$file"; echo; done

# Takes about ten minutes on two cores, and writes the page it prints.
bench-decisions: .venv/.ready
	mkdir -p build
	$(BIN)/python benchmarks/decisions.py $(ARGS) > build/decisions.md
	mv build/decisions.md docs/reference/decision-quality.md

# The fault simulator: SEEDS of them from FIRST on, on all cores; a seed that fails is printed and comes again.
SEEDS ?= 100
FIRST ?= 0
sim: .venv/.ready
	$(BIN)/python -m crossfade.testing.simulator --first $(FIRST) --seeds $(SEEDS) $(ARGS)

check: lint types test

.venv/.ready: pyproject.toml uv.lock | $(if $(findstring /,$(UV)),$(UV))
	$(UV) sync --frozen --quiet --python $(PYTHON)
	touch $@

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv

clean:
	rm -rf .venv .uv .pytest_cache .mypy_cache .ruff_cache .hypothesis
