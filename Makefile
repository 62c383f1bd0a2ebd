# `make` without a target lists the targets. Works with GNU Make 3.81 and newer, in any folder.

.DEFAULT_GOAL := help
.PHONY: help setup run test test-quick test-slow lint types imports docker format coverage bench bench-quick fuzz lock clean

# The first of these that is 3.11 or newer and can create virtual environments is used.
PYTHON ?= python3.13 python3.12 python3.11 python3
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

# Additional arguments for the command of the target: make run ARGS="--port 8081", make test-quick ARGS="-k etag".
ARGS ?=

# Where bytecode files are turned off, each of the hundreds of processes that tests start would compile
# everything that it imports.
unexport PYTHONDONTWRITEBYTECODE

# A process for each core, two for slow tests; each starts a PostgreSQL and an S3 server of its own.
PYTEST = .venv/bin/pytest --numprocesses logical --maxprocesses 4

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

setup: .venv/ready ## install batchd and its development tools into .venv

run: setup ## start everything on this machine and run the sample batches; Ctrl-C stops it
	@exec .venv/bin/batchd dev $(ARGS)

# Measuring nearly doubles the CPU time where sys.monitoring can't measure branches (before Python 3.14), so only
# the quick tests are measured; they must reach the threshold in setup.cfg by themselves.
# mypy runs beside the slow tests, which leave the cores idle for much of the time.
test: lint imports docker ## run every check and every test, as CI does
	$(PYTEST) -m 'not slow' --cov --cov-report=
	@$(MAKE) -j2 types test-slow

test-slow: setup ## run the tests that start or kill processes, need many rows, or wait
	$(PYTEST) -m slow $(ARGS)

test-quick: setup ## run the tests that start no processes and need few rows, in about a minute
	$(PYTEST) -m 'not slow' $(ARGS)

lint: setup ## check code style and formatting
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: setup ## run mypy in strict mode on the package and the tests
	.venv/bin/mypy

imports: setup ## check the import contracts
	.venv/bin/lint-imports --no-logo

docker: setup ## check Dockerfile and docker-compose.yml (does not need Docker)
	.venv/bin/hadolint Dockerfile
	POSTGRES_PASSWORD=x DATABASE_OWNER_PASSWORD=x DATABASE_PASSWORD=x S3_ACCESS_KEY=x S3_SECRET_KEY=x \
	  .venv/bin/docker-compose config --quiet

format: setup ## format the code and apply automatic fixes
	.venv/bin/ruff check --fix-only .
	.venv/bin/ruff format .

coverage: setup ## run every test, started processes included, and report uncovered lines
	$(PYTEST) --cov --cov-report=term-missing $(ARGS)

bench: .bench/ready ## run all benchmarks (benchmarks/*.py)
	@for file in benchmarks/*.py; do \
	  echo "== $$file"; .bench/bin/python "$$file" $(ARGS) || exit; \
	done

bench-quick: .bench/ready ## run only the get_batch benchmark, in under two minutes
	@.bench/bin/python benchmarks/get_batch.py --rows 100000 --rounds 2 --seconds 3 --connections 64

# Seconds for each part, but for hypothesis, which has a number of examples. What is found is in .fuzz/findings.
FUZZ_S ?= 120

fuzz: export PYTHONPATH = .
fuzz: .fuzz/ready ## try generated inputs on the parsers, the URLs and a running API (FUZZ_S=120)
	.fuzz/bin/pytest --hypothesis-profile fuzz tests/pipeline/test_line_properties.py \
	  tests/plugins/test_http_url_template.py $(ARGS)
	@if .fuzz/bin/python -c 'import atheris' 2>/dev/null; then \
	  .fuzz/bin/python fuzz/batch_lines.py $(FUZZ_S) && .fuzz/bin/python fuzz/http_heads.py $(FUZZ_S); \
	else \
	  echo 'NOT RUN: fuzz/batch_lines.py and fuzz/http_heads.py: atheris has no wheel for this Python and system.'; \
	fi
	.fuzz/bin/python fuzz/api_requests.py $(FUZZ_S)

# uv reads the package index from its own variables (UV_DEFAULT_INDEX, ...), not from pip's. The lock files
# contain versions and hashes for every platform, but no index URL.
LOCK = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(ARGS)

lock: setup ## update requirements/*.lock from setup.cfg; ARGS=--upgrade for the newest versions
	$(LOCK) requirements/build.in --output-file requirements/build.lock
	$(LOCK) setup.cfg --output-file requirements/run.lock
	$(LOCK) setup.cfg --extra cedar --extra dev --extra test --constraints requirements/run.lock \
	  --output-file requirements/dev.lock
	$(LOCK) setup.cfg --extra bench --constraints requirements/dev.lock \
	  --output-file requirements/bench.lock
	$(LOCK) setup.cfg --extra fuzz --constraints requirements/dev.lock \
	  --output-file requirements/fuzz.lock

clean: ## remove what the other targets created, except .batchd, the data of make run
	rm -rf .venv .bench .fuzz .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .schemathesis
	rm -rf build dist app/batchd.egg-info .coverage .coverage.* htmlcov
	find app benchmarks migrations tests -name __pycache__ -prune -exec rm -rf {} +

PIP := .venv/bin/python -m pip install -qq --disable-pip-version-check

# .venv is recreated whenever a lock file changes, so that it contains exactly the locked versions. Bytecode
# is compiled on first import: compiling everything here would take nearly as long as the installation.
.venv/locked: requirements/build.lock requirements/dev.lock
	@for python in $(PYTHON) ''; do \
	  if [ -n "$$python" ] && "$$python" -c '$(USABLE)' 2>/dev/null; then break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo 'make setup needs Python 3.11 or newer with venv and ensurepip; tried: $(PYTHON)' >&2; \
	  echo '(Debian, Ubuntu: apt install python3-venv; another interpreter: make setup PYTHON=...)' >&2; \
	  exit 1; \
	fi; \
	set -e; \
	echo "Installing into .venv with $$("$$python" --version); this takes about half a minute ..."; \
	"$$python" -m venv --clear .venv; \
	$(PIP) --require-hashes --no-deps --requirement requirements/build.lock; \
	$(PIP) --require-hashes --no-deps --no-compile --requirement requirements/dev.lock; \
	pwd -P >.venv/locked

.venv/ready: .venv/locked pyproject.toml setup.cfg
	@rm -rf app/batchd.egg-info # a stale one takes precedence over the installation and hides new entry points
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch .venv/ready

# Benchmarks and fuzzing have environments of their own: what batchd is compared with, and atheris, are needed by
# nothing else.
.bench/ready .fuzz/ready: .%/ready: .venv/ready requirements/%.lock
	@set -e; \
	.venv/bin/python -m venv --clear .$*; \
	for lock in build dev $*; do \
	  .$*/bin/python -m pip install -qq --disable-pip-version-check --require-hashes --no-deps \
	    --no-compile --requirement requirements/$$lock.lock; \
	done; \
	.$*/bin/python -m pip install -qq --disable-pip-version-check --no-deps \
	  --no-build-isolation --editable .; \
	touch $@

# After the folder has been copied or renamed, .venv still points to the old path.
ifneq ($(shell cat .venv/locked 2>/dev/null),$(shell pwd -P))
.PHONY: .venv/locked
endif
