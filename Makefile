# `make test` and `make demo` need nothing but a Python 3.11 or newer: each makes its own environment in .venv, once.
# Another Python: make PYTHON=/path/to/python3 test

SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help test demo lint types format docs test-stores test-pythons campaign bench bench-peers clean

export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export PYTHON

BIN := .venv/bin
CODE := $(wildcard src tests docs examples benchmarks)

help: ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

test: lint types ## lint, types and the whole suite
	@.ci/tests $(BIN)/python

demo: .venv/.ready-demo ## index the standard library, kill it half-way, resume it
	@$(BIN)/python examples/demo.py

lint: .venv/.ready-dev ## ruff: rules and format
	@.ci/quietly "ruff check" $(BIN)/ruff check $(CODE)
	@.ci/quietly "ruff format" $(BIN)/ruff format --check $(CODE)

types: .venv/.ready-dev ## mypy and pyright, strict, and the completeness of the public types
	@.ci/quietly "mypy --strict" $(BIN)/mypy --strict
	@.ci/quietly "pyright" $(BIN)/pyright
	@.ci/quietly "pyright --verifytypes" env PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes holdfast --ignoreexternal

format: .venv/.ready-dev ## let ruff put everything in order
	@$(BIN)/ruff check --fix-only --quiet $(CODE)
	@$(BIN)/ruff format --quiet $(CODE)

docs: .venv/.ready-dev ## print the generated pages anew
	@$(BIN)/python -W ignore::RuntimeWarning -m holdfast.status > docs/status.md
	@$(BIN)/python docs/generate_api.py > docs/api.md

test-stores: .venv/.ready-dev .servers/azurite/.ready ## the tests of stores whose servers PyPI does not have
	@HOLDFAST_SERVERS=required $(BIN)/python -m pytest -q -m stores

test-pythons: ## the quick part of the suite under Python 3.12 and 3.13, where they are found
	@.ci/test-pythons

campaign: .venv/.ready-dev ## everything that can go wrong, at length; at the end a table of what was tried
	@$(BIN)/python -m pytest -q -m campaign

bench: .venv/.ready-dev ## the numbers, beside their limits
	@$(BIN)/python -m benchmarks

bench-peers: .venv/.ready-dev .venv-peers/.ready ## the same, and beside the peers, which get an environment of their own
	@$(BIN)/python -m benchmarks --peers .venv-peers/bin/python

clean: ## remove environments, caches and builds
	@rm -rf .venv .venv-* .servers build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment with everything for tests can show the demo as well.
.venv/.ready-demo: pyproject.toml
	@if [ ! .venv/.ready-dev -nt pyproject.toml ]; then .ci/environment .venv rich; fi
	@touch $@

.venv/.ready-dev: pyproject.toml
	@.ci/environment .venv dev
	@touch $@

.servers/azurite/.ready:
	@.ci/azurite $(@D)
	@touch $@

.venv-peers/.ready: pyproject.toml
	@.ci/environment .venv-peers bench
	@touch $@
