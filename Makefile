# Klear Karma Hub. `make` alone prints what there is.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup build run cluster demo tour test fmt lint unit k6 clean clean-data \
	load-smoke load-connect load-chat load-availability load-booking \
	bench-bookings bench-messages bench-slots bench-refusals bench-fanout bench-slow bench-storm \
	soak autobahn

# Where rustup puts cargo, for shells that have not been restarted since.
export PATH := $(PATH):$(HOME)/.cargo/bin

# RELEASE=1 optimises; README.md and load-tests/README.md say when that is worth the longer build.
ifeq ($(RELEASE),1)
  PROFILE_FLAG := --release
  PROFILE_DIR := release
else
  PROFILE_FLAG :=
  PROFILE_DIR := debug
endif

# In CI the committed lock file must fit Cargo.toml as it is.
LOCKED := $(if $(CI),--locked)

CARGO_TARGET_DIR ?= target
HUB := $(CARGO_TARGET_DIR)/$(PROFILE_DIR)/hub
DATA_DIR ?= data
export CARGO_TARGET_DIR

K6_VERSION := v1.8.1
K6 = $$(command -v k6 || echo ./.tools/bin/k6)

help: ## Print this
	@echo 'Klear Karma Hub'
	@echo
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | \
		while IFS='|' read -r name what; do printf '%-26s %s\n' "$$name" "$$what"; done
	@echo
	@echo 'RELEASE=1 builds with optimisation: make run RELEASE=1'

setup: ## Install what the build needs and is not there (apt, sudo if not root)
	@sh scripts/setup

build: setup ## Build the hub
	@cargo build $(LOCKED) $(PROFILE_FLAG) --bin hub

run: build ## Build, start and fill with demo data: http://127.0.0.1:8080 (Ctrl-C stops)
	@exec "$(HUB)" serve --demo

cluster: build ## Two nodes, Redis and nginx before them, on loopback: http://127.0.0.1:8080 (Ctrl-C stops all)
	@exec sh scripts/cluster "$(HUB)"

demo: build ## Load the demo data into DATA_DIR or DATABASE_URL without serving
	@exec "$(HUB)" demo

tour: setup ## Two people sign up, book, chat and get a push, at BASE_URL, step by step
	@cargo run $(LOCKED) --quiet $(PROFILE_FLAG) --example tour

test: setup ## Everything: format, lints, tests, a short run of the load scripts
	@sh scripts/check

fmt: ## Check the format
	@cargo fmt --check

lint: setup ## Check with clippy; warnings are errors
	@cargo clippy $(LOCKED) --all-targets -- -D warnings

unit: setup ## Only the tests in Rust
	@cargo test $(LOCKED)

k6: ## Install k6 into .tools/bin, unless it is there (needs Go)
	@sh scripts/install-k6 $(K6_VERSION)

load-smoke: build k6 ## All load scripts for some seconds each, against a hub of their own
	@bash load-tests/smoke.sh "$(HUB)"

load-connect: k6 ## Load: many sockets, against the hub of `make run`
	@exec $(K6) run load-tests/connect.js

load-chat: k6 ## Load: pairs that chat, against the hub of `make run`
	@exec $(K6) run load-tests/chat.js

load-availability: k6 ## Load: watchers of a calendar, against the hub of `make run`
	@exec $(K6) run load-tests/availability.js

load-booking: k6 ## Load: many want the same slots, against the hub of `make run`
	@exec $(K6) run load-tests/booking.js

bench-bookings: setup ## Benchmark: durable bookings per second, beside pgbench
	@cargo bench $(LOCKED) --bench hub -- bookings

bench-messages: setup ## Benchmark: durable chat messages per second, beside pgbench
	@cargo bench $(LOCKED) --bench hub -- messages

bench-slots: setup ## Benchmark: slot queries over a calendar with 10,000 bookings
	@cargo bench $(LOCKED) --bench hub -- slots

bench-refusals: setup ## Benchmark: 10,000 requests for one slot
	@cargo bench $(LOCKED) --bench hub -- refusals

bench-fanout: setup ## Benchmark: sockets, beside a server that only writes (TOOLS=folder of both tools)
	@cargo bench $(LOCKED) --bench hub -- fanout $(if $(TOOLS),--tools '$(TOOLS)')

bench-slow: setup ## Benchmark: 1,000 sockets that never read, and what others feel of them
	@cargo bench $(LOCKED) --bench hub -- slow

soak: setup ## Two nodes under faults for SOAK_SECONDS (900): is anything lost, repeated or out of order?
	@cargo test $(LOCKED) $(PROFILE_FLAG) --test it faults:: -- --ignored --nocapture --test-threads 1

bench-storm: setup ## Benchmark: 10,000 clients that all come back at once
	@cargo bench $(LOCKED) --bench hub -- storm

autobahn: setup ## RFC 6455 by the Autobahn test suite, over an echo route of a test build (needs Python 2.7)
	@sh scripts/autobahn

clean-data: ## Delete DATA_DIR: database, keys, demo data (refused while a hub runs there)
	@sh scripts/clean-data "$(DATA_DIR)"

clean: ## Delete what was built
	@cargo clean
