# Every target sets up what it needs by itself; Python 3.11 or newer is all it asks for.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo check test unit contract integration e2e faults format servers bench clean

help: ## show this help
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Lookalike needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8,<1'
	$(BIN)/uv sync --locked --quiet --all-groups
	@touch $@

demo: $(READY) ## run the main job on sample pictures, or IMAGES=DIR; leaves the page running
	$(BIN)/python -m lookalike.demo $(if $(IMAGES),--images "$(IMAGES)")

format: $(READY) ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: $(READY) ## format, lint, types, imports, unit and contract tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/unit tests/contract

unit contract integration e2e: $(READY) ## one tier of tests
	$(BIN)/pytest tests/$@

servers: $(READY) ## fetch what the tests run against: Milvus, PostgreSQL, Triton, Docker Compose
	PYTHONPATH=tests $(BIN)/python -m servers.install

test: servers check ## everything: check, then integration and end-to-end tests
	$(BIN)/pytest tests/integration tests/e2e

faults: servers ## break a running cluster on purpose, for about an hour; prints one table
	PYTHONPATH=tests $(BIN)/python -m faults $(FAULTS)

bench: $(READY) ## measure ingestion and search against the sum of their parts
	PYTHONPATH=tests $(BIN)/python -m benchmarks.ingest
	PYTHONPATH=tests $(BIN)/python -m benchmarks.search
	PYTHONPATH=tests $(BIN)/python -m benchmarks.precision
	PYTHONPATH=tests $(BIN)/python -m benchmarks.triton

clean: ## remove what was built and downloaded
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
