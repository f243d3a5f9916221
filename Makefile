# Plain `make` says what there is. Needed: python3 of at least 3.11, git, make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := $(wildcard constraints.txt)
INSTALL := $(BIN)/pip install --disable-pip-version-check $(addprefix -c ,$(CONSTRAINTS))

# Exactly this torch first: pip then takes a CPU wheel where one is offered, and the CUDA build elsewhere.
TORCH := torch==2.13.0

.DEFAULT_GOAL := help
.PHONY: help setup demo test long chaos attack fuzz audit coverage lint docs links pre-commit up env migrate bench clean

help: ## list what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-11s %s\n", $$1, $$2 }'

setup: $(VENV)/.dev ## install everything that working on Finebits needs, into .venv

demo: $(VENV)/.runtime ## train a tiny model here, and see in bits how near it comes to the best there can be
	@$(BIN)/finebits demo

test: $(VENV)/.dev ## run the tests
	@$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

long: $(VENV)/.dev ## run the tests that take minutes each
	@$(BIN)/python -m pytest -m long

chaos: $(VENV)/.dev ## kill everything at random for half an hour, and prove that nothing is lost
	@$(BIN)/python -m pytest -m long -s tests/chaos

fuzz: $(VENV)/.dev ## ask the API 20,000 things and more, well and badly, and say which answers are wrong; options in OPTIONS
	@$(BIN)/python -m tests.fuzz $(OPTIONS)

audit: $(VENV)/.dev ## look for known vulnerabilities in what constraints.txt installs, and write what there is to sbom.json
	@$(BIN)/python -m tests.audit $(OPTIONS)
attack: $(VENV)/.dev ## try everything that an attacker would, and write down what came of it; of some files with OPTIONS
	@$(BIN)/python -m tests.attacks $(OPTIONS)

coverage: $(VENV)/.dev ## run the tests, and show which lines and branches they reach
	@$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

lint: $(VENV)/.dev ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(VENV)/.dev ## build the documentation into docs/_build
	@$(BIN)/sphinx-build -q -W --keep-going docs docs/_build
	@echo "docs/_build/index.html"

links: $(VENV)/.dev ## look up the addresses of other hosts that the documentation names; needs a network
	@$(BIN)/sphinx-build -q -b linkcheck docs docs/_build/links

pre-commit: $(VENV)/.dev ## let git run the linters before each commit
	@$(BIN)/pre-commit install

up: $(VENV)/.runtime ## run the whole service here, with the examples as models and data sets
	@FINEBITS_MODELS_ROOT="$${FINEBITS_MODELS_ROOT:-$(CURDIR)/examples/models}" \
	 FINEBITS_DATASETS_ROOT="$${FINEBITS_DATASETS_ROOT:-$(CURDIR)/examples}" \
	 $(BIN)/finebits up

env: ## write .env with fresh secrets, for docker compose; options in OPTIONS
	@$(PYTHON) -m service.dotenv $(OPTIONS)

migrate: $(VENV)/.runtime ## bring the database to the newest migration
	@$(BIN)/finebits migrate

bench: $(VENV)/.dev ## run the benchmarks
	@set -e; for file in benchmarks/*.py; do echo "$$file"; $(BIN)/python "$$file"; done

clean: ## remove the environment and the caches; data in finebits-data stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- the environment, in two steps: what runs the service, and what works on it -----------------------------------------

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "Finebits needs Python 3.11 or newer; $(PYTHON) says: $$($(PYTHON) --version 2>&1)."; \
		     echo "Name another: make PYTHON=python3.12 ..."; exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make environments. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; } >&2
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: $(BIN)/pip pyproject.toml $(CONSTRAINTS)
	@echo "Installing torch and what runs the service; this takes a few minutes the first time."
	@$(INSTALL) $(TORCH)
	@$(INSTALL) -e '.[worker,embedded]'
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "Installing what working on it needs."
	@$(INSTALL) -e '.[dev]'
	@touch $@
