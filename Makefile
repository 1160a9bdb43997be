# Every chore has one entry here; `make` alone lists them. All that is needed beforehand is git, make,
# cargo and CPython 3.11 or later with pip and venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
JOBS   ?= 2
STAMP  := $(VENV)/.installed
NATIVE := $(shell find crates -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock pyproject.toml
# The Rust tests of the engine need no Python; the binding is tested from Python.
RUST_TESTED := -p millpond-sys -p millpond-table -p millpond-engine -p testkit

.PHONY: help build demo test test-rust test-python test-models lint bench bench-rust instructions \
        instructions-reference verify verify-native verify-python test-address test-threads canaries soak fuzz clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# The development tools, at the versions that the tests were written with.
$(VENV)/.tools: requirements-dev.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	@touch $@

$(STAMP): $(NATIVE) | $(BIN)/python
	$(BIN)/python -m pip install --quiet 'maturin>=1.14,<2'
	cd $(CURDIR) && VIRTUAL_ENV=$(CURDIR)/$(VENV) PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/maturin develop --release --quiet
	@touch $@

build: $(STAMP) ## Make the virtual environment and build Millpond into it

demo: build ## The founding question's two programs on both pools, in fork and in spawn
	$(BIN)/python -m millpond demo $(DEMO_ARGS)

# Ray is large, and there is not one for every Python: without it the rest is measured.
$(VENV)/.peers: requirements-bench.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -r requirements-bench.txt
	$(BIN)/python -m pip install --quiet 'ray>=2.50,<3' || echo 'ray is not measured' >&2
	@touch $@

bench: build $(VENV)/.peers ## Every workload side by side with multiprocessing.Pool and its peers
	@mkdir -p target/bench
	$(BIN)/python -m millpond bench --peers --json target/bench/bench.json --plots target/bench $(BENCH_ARGS)

bench-rust: ## The table's steps and the wait protocol, without Python
	cargo bench --locked -p millpond-table --bench table

instructions: ## Count the instructions of the hot path; fails if they are not those of docs/instructions.json
	$(PYTHON) tools/instructions.py compare

instructions-reference: ## Count them, and write docs/instructions.json
	$(PYTHON) tools/instructions.py reference

test: test-rust test-models test-python ## All tests

test-rust:
	cargo test --locked $(RUST_TESTED)

# The structures in shared memory under every interleaving of two preemptions (loom), and whole pools
# under long random schedules (shuttle); with MILLPOND_VERIFY=1 and MILLPOND_SCHEDULES=100000 under many
# more. They have target folders of their own: other cfgs, other artefacts.
test-models:
	RUSTFLAGS='--cfg loom' cargo test --locked -p millpond-table --release --test loom --target-dir target/loom
	RUSTFLAGS='--cfg shuttle' cargo test --locked -p millpond-table --release --test shuttle --target-dir target/shuttle

# Two tests at a time, as most of them keep one core busy; the proofs of reliability have the machine
# for themselves. With PYTEST_ARGS just what these name.
test-python: build $(VENV)/.tools
	export MILLPOND_CONFORMANCE_PYTHONS="$$(sh tools/conformance_pythons.sh $(CURDIR))" && \
	$(if $(PYTEST_ARGS),$(PYTEST) $(PYTEST_ARGS),$(PYTEST) -n $(JOBS) --dist worksteal --ignore tests/reliability \
	  && $(PYTEST) tests/reliability)

lint: build $(VENV)/.tools ## Formats, clippy, ruff and types; warnings are errors
	cargo fmt --all --check
	PYO3_PYTHON=$(CURDIR)/$(BIN)/python cargo clippy --locked --workspace --all-targets -- -D warnings
	$(BIN)/ruff format --check python tests
	$(BIN)/ruff check python tests
	$(BIN)/python -m mypy

verify: ## All long forms, one after the other: hours; verify-native may run beside verify-python, in a clone of its own
	$(MAKE) verify-native
	$(MAKE) verify-python
	$(MAKE) canaries

verify-native: build $(VENV)/.tools ## Of it: valgrind on the walker, both sanitizers, and the models' long forms
	sh tools/memcheck.sh $(CURDIR)/$(BIN)/python
	$(MAKE) test-address
	$(MAKE) test-threads
	MILLPOND_VERIFY=1 MILLPOND_SCHEDULES=100000 $(MAKE) test-models

verify-python: build $(VENV)/.tools ## Of it: 10 000 composed programs, and the long forms of the proofs of reliability
	MILLPOND_EXAMPLES=10000 $(MAKE) test-python PYTEST_ARGS=tests/exactness/test_composed.py
	MILLPOND_VERIFY=1 $(MAKE) test-python PYTEST_ARGS='-rP tests/reliability tests/test_payloads.py tests/test_direct_frames.py'

test-address: ## Table and engine under the address sanitizer
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=target/address \
	  cargo test --locked --target $$(rustc -vV | sed -n 's/^host: //p') -p millpond-table -p millpond-engine

# Hostile memory has one thread, and random memory takes minutes of it.
test-threads: ## Table and engine, with threads for workers, under the thread sanitizer
	sh tools/thread_sanitizer.sh -p millpond-table -p millpond-engine -- --skip hostile

canaries: build $(VENV)/.tools ## A bug for each tier of tests, which that tier must find
	sh tools/canaries.sh $(CURDIR)/$(BIN)/python

soak: build $(VENV)/.tools ## One pool under everything for an hour, and what it grows (SOAK_ARGS='--minutes 60')
	cd tests && $(CURDIR)/$(BIN)/python -m reliability.soak $(SOAK_ARGS)

fuzz: ## 100 000 composed programs, and the fuzz targets of the shared structures; needs cargo-fuzz
	MILLPOND_EXAMPLES=100000 MILLPOND_PARTS=20 $(MAKE) test-python \
	  PYTEST_ARGS='-n $(JOBS) tests/exactness/test_composed.py -k "alike and not otherwise and not nothing"'
	cd crates/millpond-table/fuzz && for target in attach claim take_done recover; do \
	  RUSTC_BOOTSTRAP=1 cargo fuzz run $$target -- -max_total_time=60 \
	    -malloc_limit_mb=64 -timeout=1 || exit 1; done

clean: ## Remove what was built
	rm -rf target $(VENV) .venv-* python/millpond/*.so
