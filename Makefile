# Flagstone. `make help` lists the targets.
#
# Everything that is installed goes to .venv (the benchmarks' peers to .venv-bench), everything that
# is built to build/. The system's packages are installed by tools/setup-system, when root runs this
# and they are missing.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
IN_VENV := PATH="$(CURDIR)/$(BIN):$$PATH"

# Another Python's settings must not leak in.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

# Stamps: each says what was done last, and is older than what has to be done again.
S := $(VENV)/stamps
SOURCES := $(shell find core src -name '*.[ch]' -o -name '*.py' -o -name '*.py[ix]' \
	-o -name '*.px[id]' -o -name meson.build -o -name py.typed) meson.build meson.options
C_FILES = $(shell find core src tests/core tests/fuzz -name '*.[ch]')
PYTHON_PATHS = $(wildcard src tests tools benchmarks examples)

.PHONY: help setup demo test lint test-core aarch64 hot-paths test-python pythons test-pythons test-twice sanitize tsan-threads mutants fuzz model soak bench docs drawings musl wheels format clean

help: ## list the targets
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(S)/package $(S)/tools ## make .venv, install the tools and the package

demo: $(S)/package ## show what Flagstone does
	@$(BIN)/flagstone demo

test: $(S)/package $(S)/tools ## everything: lint, core tests (aarch64, too), hot paths, sanitizers, models, Python tests on every interpreter
	@# The emulator and callgrind use one processor, and go beside what leaves one idle at times.
	@parts() { for part; do printf '\n== %s\n' $$part; SECONDS=0; $(MAKE) --no-print-directory $$part || return; \
		echo "== $$part: $$SECONDS s"; done; }; \
	parts lint; \
	mkdir -p build; set -m; (parts aarch64 hot-paths) >build/beside.txt 2>&1 </dev/null & beside=$$!; set +m; \
	trap "kill -- -$$beside" EXIT; good=true; \
	parts test-core sanitize || good=false; \
	wait $$beside || good=false; trap - EXIT; cat build/beside.txt; $$good; \
	parts model pythons test-pythons test-python

lint: $(S)/tools ## formatting, style, types, and the checks of tools/checks
	@$(BIN)/ruff format --check $(PYTHON_PATHS)
	@$(BIN)/ruff check $(PYTHON_PATHS)
	@$(BIN)/mypy
	@$(BIN)/clang-format --dry-run -Werror $(C_FILES)
	@$(BIN)/python -m tools.checks

format: $(S)/tools ## put every file in the shape that lint wants
	@$(BIN)/ruff check --fix-only --exit-zero $(PYTHON_PATHS)
	@$(BIN)/ruff format $(PYTHON_PATHS)
	@$(BIN)/clang-format -i $(C_FILES)

test-core: $(S)/tools ## the C core's tests, built by gcc and clang
	@CC=gcc tools/core-tests gcc -Dfault_points=true
	@CC=clang tools/core-tests clang -Dbuildtype=release

aarch64: $(S)/tools ## the core's tests on an emulated aarch64 with pages of 64 KiB (ARGS=all: all of them), and the package
	@tools/setup-system aarch64
	@tools/aarch64 $(ARGS)
	@$(if $(filter-out all,$(ARGS)),,tools/aarch64-python)

hot-paths: $(S)/package $(S)/tools ## count the instructions of the hot paths: ARGS=--update sets the bounds
	@$(BIN)/python tools/hot-paths $(ARGS)

mutants: $(S)/tools ## break one rule of the core at a time, and see that a test fails: ARGS=--torture that a torture does
	@$(BIN)/python tools/mutants $(ARGS)

sanitize: $(S)/package $(S)/tools ## the same under sanitizers, and part of the Python tests: ARGS=tests/process for others
	@CC=gcc TEST_TIMEOUTS=4 ASAN_OPTIONS=detect_stack_use_after_return=1 \
		UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		tools/core-tests asan -Dfault_points=true -Db_sanitize=address,undefined
	@# Threads stand for processes here: the thread sanitizer sees no order that another process
	@# makes, and no fork beside threads; a child of one that had a reaper then may start its
	@# own all the same.
	@CC=clang TEST_TIMEOUTS=8 TSAN_OPTIONS=halt_on_error=1:die_after_fork=0 TEST_WRAPPER="setarch -R" \
		TESTS="word pages lock rcu revoke slab object arena torture" \
		tools/core-tests tsan -Db_sanitize=thread -Db_lundef=false
	@tools/python-sanitize $(ARGS)

tsan-threads: $(S)/tools ## the Python tests of threads without a GIL, under the thread sanitizer: ARGS=tests/unit for others
	@tools/python-tsan $(ARGS)

fuzz: $(S)/tools ## look for inputs that crash the core: MINUTES=10, TARGET="attach", MUTANT=name
	@tools/fuzz $(TARGET)

model: $(S)/tools ## check the models with spin, and the litmus tests with herd7
	@$(BIN)/python -m tools.litmus
	@tools/run-models $(ARGS)

test-python: $(S)/package $(S)/tools ## the Python tests, four at a time: ARGS="tests/unit -k name -n 0"
	@# They wait more than they compute.
	@$(BIN)/python -m pytest -n 4 --dist worksteal $(ARGS)

pythons: ## bring a free-threaded Python, and those of 3.14 and 3.15 that Debian has, if none are here
	@tools/pythons bring

test-pythons: $(S)/package ## tests/unit, every method by eight threads, and a share of the other tests, on every other interpreter that is here: VERSIONS="3.13", ARGS=tests
	@tools/pythons test $(ARGS)

test-twice: $(S)/package $(S)/tools ## two runs of Python tests at the same time, beside a busy neighbour: ARGS="tests/unit"
	@$(BIN)/python tools/test-twice $(ARGS)

soak: $(S)/package $(S)/tools ## the tests that run for minutes: MINUTES=10, SEED=n to repeat
	@export FST_TEST_SOAK=1 TEST_TIMEOUTS=20 TEST_VERBOSE=1 TORTURE=50; \
		CC=gcc TESTS="kill_twice torture clobber" tools/core-tests gcc -Dfault_points=true; \
		CC=clang TESTS=steps tools/core-tests clang -Dbuildtype=release; \
		CC=gcc TESTS="pages slab arena memlimit channel store group fork" tools/core-tests pages-16k -Dfault_points=true -Dpage_size=16384
	@$(BIN)/python tools/requirements.py soak >$(S)/soak.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(S)/soak.txt
	@$(BIN)/python -m pytest -m soak -s --timeout=3600 $(ARGS)
	@tools/python-tsan

bench: $(S)/package $(BENCH)/stamp ## measure beside the peers: ONLY="alloc core", FULL=1, QUICK=1
	@tools/setup-system bench
	@$(IN_VENV) $(BENCH)/bin/python -m benchmarks $(if $(ONLY),--only "$(ONLY)") $(if $(FULL),--full) \
		$(if $(QUICK),--quick --out build/bench/quick) $(ARGS)

musl: $(S)/tools ## tests/unit with musl, the C library of Alpine, in a Python built for it: ARGS=tests/process
	@tools/musl $(ARGS)

wheels: $(S)/tools ## build the source archive and a wheel in build/wheels, and try it: PYTHONS=all for every interpreter here
	@$(BIN)/python tools/requirements.py wheels >$(S)/wheels.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(S)/wheels.txt
	@PYTHONS="$(PYTHONS)" tools/wheels

docs: $(S)/package $(S)/tools ## build the site of docs/ into build/site, and look at it with headless Chromium
	@tools/setup-system docs
	@$(BIN)/python -m tools.drawings
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@$(BIN)/python -m tools.render
	@echo "build/site/index.html"

drawings: $(S)/requirements ## draw docs/drawings anew from the text files there
	@$(BIN)/python -m tools.drawings

clean: ## remove .venv, .venv-bench and build
	rm -rf $(VENV) $(BENCH) build

# What pip needs, by need: a demo waits for no linter.
$(S)/venv: tools/setup-system
	@PYTHON="$(PYTHON)" tools/setup-system build
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say make PYTHON=...")'
	@echo "making $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@mkdir -p $(S) && touch $@

$(S)/requirements: $(S)/venv pyproject.toml tools/requirements.py
	@echo "installing what the build needs"
	@$(BIN)/python tools/requirements.py cli >$@.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $@.txt
	@touch $@

$(S)/package: $(S)/requirements $(SOURCES) pyproject.toml
	@echo "building and installing flagstone"
	@$(IN_VENV) $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-index \
		--no-build-isolation --no-deps --force-reinstall --config-settings=build-dir=build/python .
	@touch $@

$(S)/tools: $(S)/requirements tools/setup-system
	@PYTHON="$(PYTHON)" tools/setup-system test
	@echo "installing what the tests need"
	@$(BIN)/python tools/requirements.py $(if $(filter true,$(CI)),ci,dev) >$@.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $@.txt
	@touch $@

# The peers see Flagstone as it is in .venv, and it sees nothing of theirs. One that does not
# install is named by the report.
$(BENCH)/stamp: $(S)/requirements
	@echo "making $(BENCH)"
	@$(PYTHON) -m venv --clear $(BENCH)
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$$($(BENCH)/bin/python -c \
		'import sysconfig; print(sysconfig.get_path("purelib"))')/flagstone.pth"
	@$(BIN)/python tools/requirements.py bench | while read -r package; do \
		$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check "$$package" || \
			echo "not installed: $$package"; done
	@touch $@
