# Every target sets up what it needs by itself (tests/setup.sh): a Rust toolchain and make are all that must be there.
#
#   make build      the release binary, static
#   make demo       nginx before three backends, each under pilotfish; KEEP=1 leaves it running
#   make test       all tests that need no container engine, and the lints
#   make e2e        the tests on a real Docker engine, and a primary of each example that keeps data killed
#   make bench      [QUICK=1] all inits beside each other, memory at work, change-to-hook latency on each catalog
#   make growth     [QUICK=1] [BLESS=1] how memory, processor and latency grow with instances, checks, watches, orphans and members;
#                   BLESS=1 draws the plots of docs/performance.md anew
#   make density    [N="1000 2000"] [STORE=local] [BLESS=1] how many agents this machine holds with no check late by a second
#   make size       which crates the binary's bytes are from
#   make instructions   [BLESS=1] how many instructions a start, an orphan, a check, a change, a second of leading cost; fails
#                   where one costs a quarter more than tests/bench/instructions.txt says
#   make order      records which functions are used together, by which a release is laid out (packaging/functions.order)
#   make faults     what becomes of the catalog when Consul and etcd fail and when networks are cut, as tables
#   make pauses     leaders stopped, wedged, frozen, robbed of their guard and killed: whether two ever act, and how long
#   make nemesis    BACKEND=consul|etcd|etcd34|local DURATION=600s [SEED=N] [WITNESS=candidates|agents]: five candidates, and all that can
#                   go wrong
#   make nemesis-controls   the same with one rule of leading broken at a time: two must lead at once, or nothing was proved
#   make failover   [SAMPLES=20] [ROW=health]: how long nobody leads, fault by fault, as a table; wants a machine at rest
#   make failovers EXAMPLE=postgres|mariadb|redis [STORE=consul|etcd] [KINDS=killed,paused] [N=100] [DURATION=90m] [SEED=1]: an
#                   example in containers, written to and struck; what was acknowledged must be there in the end; a table of
#                   the seconds without a write. EXAMPLE=patroni|patroni-sync: what PostgreSQL is measured beside
#   make failovers-short   a few blows to each of them
#   make crowd      10,000 instances and 50 MB of keys on each store: memory, what is told, how long a change takes
#   make model      the election's model checker at length, optimised; the short form is part of make test
#   make fuzz       [DURATION=1h] [TARGET=...]: bytes at random, as coverage leads, at all that reads what others write
#   make fuzz-short the same, a minute each
#   make lint       formatting, shellcheck, clippy, rustdoc, and cargo-deny: advisories, licences, duplicates, sources
#   make replay     RECORD=FILE: what the core decides of a record (`pilotfish record`), an event a line, what it orders below
#   make manual     writes man pages, and completions for bash, zsh and fish, into target/manual
#   make reference  writes config-examples/reference.toml, docs/configuration.md, docs/emitted.md, their schemas and docs/life.svg anew

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.DELETE_ON_ERROR:
.PHONY: build demo test e2e bench growth density size instructions order faults pauses nemesis nemesis-controls failover failovers failovers-short crowd fuzz fuzz-short lint manual replay reference format shellcheck clippy deny doc static reference-init model

HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
# Cargo puts it below the target's name because .cargo/config.toml names one.
BINARY := $(TARGET_DIR)/$(HOST)/release/pilotfish
CARGO := cargo --locked

build:
	@tests/setup.sh build
	@$(CARGO) build --release --bin pilotfish
	@echo "$(BINARY): $$(stat -c %s $(BINARY)) bytes"

demo: build
	@tests/setup.sh demo
	@PILOTFISH=$${PILOTFISH:-$(BINARY)} docker/demo/run.sh

# The quick judges first, the slow ones last.
test:
	@tests/setup.sh test
	@$(MAKE) --no-print-directory format shellcheck clippy deny doc
	$(CARGO) test
	@$(MAKE) --no-print-directory reference-init
	@$(MAKE) --no-print-directory static
	@tests/behaviours.sh

e2e: build
	@tests/setup.sh e2e
	@tests/get-servers.sh .servers
	@PILOTFISH=$(abspath $(BINARY)) tests/e2e.sh

bench: build
	@tests/setup.sh bench
	@PILOTFISH=$(BINARY) tests/bench/run.sh
	@echo
	@PILOTFISH=$(BINARY) tests/bench/memory.sh
	@echo
	@PILOTFISH=$(BINARY) tests/bench/latency.sh

growth: build
	@tests/setup.sh bench
	@PILOTFISH=$(BINARY) tests/bench/growth.sh
	@[ -z "$${BLESS:-}" ] || $(MAKE) --no-print-directory reference

density: build
	@tests/setup.sh bench
	@PILOTFISH=$(BINARY) tests/bench/density.sh
	@[ -z "$${BLESS:-}" ] || $(MAKE) --no-print-directory reference

# Of a binary with symbols, in the folder of `make order`.
size:
	@tests/setup.sh build
	@PILOTFISH_KEEP_NAMES=1 $(CARGO) build --release --bin pilotfish --target-dir $(TARGET_DIR)/order
	@BINARY=$(TARGET_DIR)/order/$(HOST)/release/pilotfish tests/bench/size.sh

instructions: build
	@tests/setup.sh instructions
	@tests/get-servers.sh .servers
	@PILOTFISH=$(abspath $(BINARY)) SERVERS=.servers tests/bench/instructions.sh

# Of a binary with symbols, in a folder of its own.
order:
	@tests/setup.sh order
	@tests/get-servers.sh .servers
	@PILOTFISH_KEEP_NAMES=1 $(CARGO) build --release --bin pilotfish --target-dir $(TARGET_DIR)/order
	@BINARY=$(TARGET_DIR)/order/$(HOST)/release/pilotfish SERVERS=.servers tests/bench/order.sh

# Tests like the others, but of minutes: the whole contract on clusters of three; these are killed, stopped and cut off,
# and crowds of agents come back.
faults:
	@tests/setup.sh test
	@$(CARGO) test --test pilotfish -- --ignored backend::contract::
	@$(CARGO) test --test pilotfish -- --ignored --nocapture --test-threads 1 fault_table:: engine_load:: candidates:: outage:: balancers::

# Half an hour. The frozen ones alone, for what is measured there is who gets a processor first; then the others, which
# mostly wait, beside each other.
pauses:
	@tests/setup.sh test
	@$(CARGO) test --test pilotfish -- --ignored --nocapture --test-threads 1 pauses::frozen::
	@$(CARGO) test --test pilotfish -- --ignored --nocapture --test-threads 4 pauses:: --skip pauses::frozen::
	@$(CARGO) test --features sabotage --test pilotfish -- --ignored --nocapture pauses::wedged::

export QUICK BACKEND DURATION SEED SAMPLES WITNESS EXAMPLE STORE KINDS N WITHIN KEEP BLESS AXES

nemesis:
	@tests/setup.sh test
	@$(CARGO) test --test pilotfish -- --ignored --exact --nocapture faults::nemesis::at_length

nemesis-controls:
	@tests/setup.sh test
	@$(CARGO) test --features sabotage --test pilotfish -- --ignored --nocapture --test-threads 1 nemesis::controls::

failover: build
	@tests/setup.sh test
	@PILOTFISH=$(abspath $(BINARY)) $(CARGO) test --test pilotfish -- --ignored --nocapture --test-threads 1 failover::

failovers-short: build
	@tests/setup.sh failovers
	@tests/get-servers.sh .servers
	@PILOTFISH=$(abspath $(BINARY)) $(CARGO) test --test pilotfish -- --ignored --nocapture --test-threads 1 failovers:: --skip failovers::at_length --skip failovers::smoke::

failovers: build
	@tests/setup.sh failovers
	@tests/get-servers.sh .servers
	@PILOTFISH=$(abspath $(BINARY)) $(CARGO) test --test pilotfish -- --ignored --exact --nocapture faults::failovers::at_length

crowd: build
	@tests/setup.sh test
	@PILOTFISH=$(abspath $(BINARY)) $(CARGO) test --test pilotfish -- --ignored --nocapture --test-threads 1 crowd::

# The core as it is, against engines, a network and misfortune; and each of its rules broken, to see which promise falls.
model:
	@tests/setup.sh test
	$(CARGO) test --profile model --lib -- tests::model:: --include-ignored --nocapture --test-threads=1

# In all, so many targets at a time as there are processors.
fuzz:
	@tests/setup.sh fuzz
	@tests/fuzz/run.sh in-all "$${DURATION:-1h}" $(TARGET)

fuzz-short:
	@tests/setup.sh fuzz
	@tests/fuzz/run.sh each "$${DURATION:-1m}" $(TARGET)

lint:
	@tests/setup.sh lint
	@$(MAKE) --no-print-directory format shellcheck clippy deny doc
	@tests/setup.sh fuzz
	$(CARGO) clippy --manifest-path tests/fuzz/Cargo.toml --target-dir $(TARGET_DIR)/fuzz -- -D warnings

manual:
	@$(CARGO) run --quiet --example manual -- $(TARGET_DIR)/manual
	@echo "$(TARGET_DIR)/manual: $$(ls $(TARGET_DIR)/manual | wc -l) files"

replay:
	@PILOTFISH_RECORD=$(abspath $(RECORD)) $(CARGO) test --quiet --lib -- --nocapture generated::records

reference:
	@PILOTFISH_UPDATE=1 $(CARGO) test --quiet --lib generated:: -- --skip records

format:
	cargo fmt --check
	cargo fmt --check --manifest-path tests/fuzz/Cargo.toml

clippy:
	$(CARGO) clippy --all-targets -- -D warnings

deny:
	@tests/deny.sh

shellcheck:
	@git ls-files '*.sh' .ci/run 'config-examples/*/hook' 'config-examples/*/job' 'config-examples/*/app' | xargs shellcheck -x -S warning

# Private items too: a link that leads nowhere helps nobody who reads the source.
doc:
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --no-deps --document-private-items --lib

# The init tests that aren't about pilotfish alone, run on tini too: a test that no other init passes may be wrong.
reference-init:
	BIN="tini --" $(CARGO) test --test pilotfish -- --show-output init:: --skip docker::

# What is copied into foreign images must bring all it needs, and never look names up through the image's libc.
static: build
	@tests/static.sh $(BINARY)
