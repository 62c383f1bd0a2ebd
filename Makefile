# `make` alone prints what there is to make. Works on GNU Make 3.81 and newer, and in any folder.

.DEFAULT_GOAL := help
.PHONY: help setup run test lint types imports docker format coverage bench bench-quick lock clean

# The first of these that is 3.11 or newer and can make virtual environments is used.
PYTHON ?= python3.13 python3.12 python3.11 python3
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

# More arguments for what the target starts: make run ARGS="--port 8081", make test ARGS="-k etag".
ARGS ?=

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

setup: .venv/ready ## install batchd and its tools into .venv

run: setup ## start everything on this machine and run the sample batch; Ctrl-C stops it
	@exec .venv/bin/batchd dev $(ARGS)

test: lint types imports docker ## every check and every test: what CI runs
	.venv/bin/pytest $(ARGS)

lint: setup ## rules and format of the code
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: setup ## mypy, strict, on the package and the tests
	.venv/bin/mypy

imports: setup ## who may import whom
	.venv/bin/lint-imports --no-logo

docker: setup ## Dockerfile and docker-compose.yml are sound (needs no Docker)
	.venv/bin/hadolint Dockerfile
	.venv/bin/docker-compose config --quiet

format: setup ## put the code into form
	.venv/bin/ruff check --fix-only .
	.venv/bin/ruff format .

coverage: setup ## run the tests and print the lines they missed
	.venv/bin/pytest --cov --cov-report=term-missing $(ARGS)

bench: .bench/ready ## run the benchmarks: each file benchmarks/*.py is one
	@for file in benchmarks/*.py; do \
	  echo "== $$file"; .bench/bin/python "$$file" $(ARGS) || exit; \
	done

bench-quick: .bench/ready ## the status read alone, in under two minutes
	@.bench/bin/python benchmarks/get_batch.py --rows 100000 --rounds 2 --seconds 3 --connections 64

# uv finds the package index by its own variables (UV_DEFAULT_INDEX, ...), not by pip's. The locks hold
# versions and hashes for every platform, and no address.
LOCK = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(ARGS)

lock: setup ## bring requirements/*.lock up to setup.cfg; ARGS=--upgrade: to the newest versions
	$(LOCK) requirements/build.in --output-file requirements/build.lock
	$(LOCK) setup.cfg --output-file requirements/run.lock
	$(LOCK) setup.cfg --extra cedar --extra dev --extra test --constraints requirements/run.lock \
	  --output-file requirements/dev.lock
	$(LOCK) setup.cfg --extra bench --constraints requirements/dev.lock \
	  --output-file requirements/bench.lock

clean: ## remove what the other targets made, but not .batchd, the data of make run
	rm -rf .venv .bench .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .schemathesis
	rm -rf build dist app/batchd.egg-info .coverage .coverage.* htmlcov
	find app benchmarks migrations tests -name __pycache__ -prune -exec rm -rf {} +

PIP := .venv/bin/python -m pip install -qq --disable-pip-version-check

# .venv is made anew whenever a lock changes, so that it holds what they say and nothing else. Bytecode
# is left to the first import: compiling everything now would take nearly as long as installing it.
.venv/locked: requirements/build.lock requirements/dev.lock
	@for python in $(PYTHON) ''; do \
	  if [ -n "$$python" ] && "$$python" -c '$(USABLE)' 2>/dev/null; then break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo 'make setup needs Python 3.11 or newer with venv and ensurepip; tried: $(PYTHON)' >&2; \
	  echo '(Debian, Ubuntu: apt install python3-venv; another one: make setup PYTHON=...)' >&2; \
	  exit 1; \
	fi; \
	set -e; \
	echo "Installing into .venv with $$("$$python" --version), half a minute or so ..."; \
	"$$python" -m venv --clear .venv; \
	$(PIP) --require-hashes --no-deps --requirement requirements/build.lock; \
	$(PIP) --require-hashes --no-deps --no-compile --requirement requirements/dev.lock; \
	pwd -P >.venv/locked

.venv/ready: .venv/locked pyproject.toml setup.cfg
	@rm -rf app/batchd.egg-info # an old one is found before what is installed, and hides new entry points
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch .venv/ready

# The benchmarks have an environment of their own, with all that they compare batchd with.
.bench/ready: .venv/ready requirements/bench.lock
	@set -e; \
	.venv/bin/python -m venv --clear .bench; \
	for lock in build dev bench; do \
	  .bench/bin/python -m pip install -qq --disable-pip-version-check --require-hashes --no-deps \
	    --no-compile --requirement requirements/$$lock.lock; \
	done; \
	.bench/bin/python -m pip install -qq --disable-pip-version-check --no-deps \
	  --no-build-isolation --editable .; \
	touch .bench/ready

# A .venv that came along with a copied or renamed folder still points to the old place.
ifneq ($(shell cat .venv/locked 2>/dev/null),$(shell pwd -P))
.PHONY: .venv/locked
endif
