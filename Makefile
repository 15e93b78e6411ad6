# Unspan: make help

GO ?= go
FUZZTIME ?= 30s
INPUTS ?= 10000000

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help build generate generate-check lint test test-unprivileged fuzz fuzz-agree test-kernel test-duckdb bench bench-quick demo package clean install-tools

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build ./unspan (needs Go only)
	CGO_ENABLED=0 $(GO) build -trimpath -o unspan ./cmd/unspan

generate: ## compile the kernel half and generate its Go side (needs clang-19)
	$(GO) generate ./...

generate-check: ## fail when make generate would change what is committed
	scripts/generate-check

lint: ## gofmt, go vet, staticcheck, shellcheck
	scripts/lint

# -short where races are looked for: the 400,000 inputs of TestAgree are one
# goroutine's, and take a minute there.
test: ## install what is missing, then everything: lint, generate, build, all tests (root)
	scripts/setup
	$(MAKE) lint generate-check build
	scripts/test ./...
	scripts/test -race -short ./...
	$(MAKE) fuzz FUZZTIME=5s

test-unprivileged: ## what runs without root; says what it skipped
	scripts/test ./...

fuzz: ## every fuzz target for FUZZTIME (30s)
	scripts/fuzz $(FUZZTIME)

fuzz-agree: ## C against Go on 10 million mutated packets, INPUTS=n for another number (root)
	UNSPAN_FUZZ_INPUTS=$(INPUTS) $(GO) test ./userspace/decap -run 'TestAgree$$' -count 1 -v -timeout 2h

test-kernel: ## the loader's tests on Linux 6.1, in QEMU (root, some minutes)
	scripts/test-kernel

test-duckdb: ## DuckDB reads the flows in Parquet and JSON lines (npm)
	scripts/test-duckdb

bench: ## the whole benchmark: ceilings, this, and what people use today (root)
	$(GO) build -o unspan-bench ./bench
	./unspan-bench

bench-quick: ## its main ratios, in under two minutes (root)
	$(GO) build -o unspan-bench ./bench
	./unspan-bench -quick

demo: build ## the main job in two namespaces of its own (root)
	./unspan demo

package: build ## a Debian package, unspan_VERSION_ARCH.deb
	scripts/package

clean: ## remove what was built
	rm -f unspan unspan-bench demo.pcapng unspan_*.deb

install-tools: ## install what tests and development need, with apt (root)
	scripts/setup
