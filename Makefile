# One environment, .venv, made by `make install`; everything else here runs in it.

VENV := .venv
PYTHON := $(VENV)/bin/python
# `make install PYTHON3=/path/to/python3` says which Python the environment is made with.
PYTHON3 ?= python3
PIP := $(PYTHON) -m pip --disable-pip-version-check --quiet
INSTALLED := $(VENV)/.installed
INSTALLED_BENCH := $(VENV)/.installed-bench
COMPILE := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" pyproject.toml

.PHONY: help install test check demo bench table lock clean

help: ## Lists the targets.
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Makes .venv and installs the locked dependencies and the project into it.

test: install ## Runs all tests.
	$(PYTHON) -m pytest

check: install ## Lints, checks format, types and layers.
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

demo: install ## Snapshots a bucket of a real S3 server through a daemon, and clears up.
	$(PYTHON) -m deploy.demo

bench: $(INSTALLED_BENCH) ## Compares with other tools and appends to benchmarks/results.jsonl.
	$(PYTHON) -m benchmarks

table: install ## Tries every store on its contract, and writes docs/store-contract.md.
	CI=true $(PYTHON) -m pytest tests/contract --store-table docs/store-contract.md

lock: install ## Writes the locks anew from pyproject.toml; UPGRADE=--upgrade takes newer versions.
	$(COMPILE) $(UPGRADE) --extra all --extra dev --output-file requirements.lock
	$(COMPILE) $(UPGRADE) --extra bench --constraint requirements.lock \
		--output-file requirements-bench.lock

clean: ## Removes .venv and whatever else was made here.
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml requirements.lock
	@if ! $(PYTHON) -c 'import pip' 2>/dev/null; then \
		recent='import sys; sys.exit(sys.version_info < (3, 11))'; \
		for python in "$(PYTHON3)" python3.13 python3.12 python3.11 python3.14 none; do \
			"$$python" -c "$$recent" 2>/dev/null && break; \
		done; \
		if [ "$$python" = none ]; then \
			echo "Python 3.11 or newer is needed, and there is none on PATH: install one," \
				"or name it with make install PYTHON3=/path/to/python3." >&2; \
			exit 1; \
		fi; \
		if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
			echo "$$python cannot make environments: install its venv and ensurepip modules" \
				"(on Debian and Ubuntu the package python3-venv)." >&2; \
			exit 1; \
		fi; \
		echo "Making $(VENV) with $$("$$python" --version)"; \
		"$$python" -m venv --clear $(VENV); \
	fi
	@echo "Installing the dependencies into $(VENV): about a minute, once"
	@$(PIP) install --require-hashes --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(INSTALLED_BENCH): $(INSTALLED) requirements-bench.lock
	@echo "Installing the tools to compare with into $(VENV)"
	@$(PIP) install --require-hashes --requirement requirements-bench.lock
	@touch $@
