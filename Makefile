# `make` prints what there is. CI runs the same commands that you type.

CARGO ?= cargo
# The models are fetched by our own binary; in development that is the quick build.
WEIR_DEV = $(CARGO) run --quiet --locked --
TOOLS = target/tools
CLIENTS = target/clients
DENY_VERSION = 0.20.2
FUZZ_VERSION = 0.13.2
FUZZ_SECONDS ?= 60
PROTOCOLS = openai_chat openai_completions openai_responses anthropic gemini ollama_chat
FUZZ_TARGETS ?= sse splice rules request_ollama_generate $(PROTOCOLS:%=request_%) $(PROTOCOLS:%=reply_%)

.DEFAULT_GOAL := help
.PHONY: help run build test test-clients lint fmt bench models doc deny fuzz cuda ci clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## Fetch the models, build, and start the sidecar on 127.0.0.1:4100
	./target/release/weir --models-dir models models fetch
	./target/release/weir --models-dir models serve

build: ## Build the release binary, target/release/weir
	$(CARGO) build --release --locked

test: models ## Fetch the models and run every test
	$(CARGO) test --locked

test-clients: build ## Run real SDKs (Python and Node, installed below target) against the sidecar
	@mkdir -p $(CLIENTS)
	@test -x $(CLIENTS)/venv/bin/python || python3 -m venv $(CLIENTS)/venv
	@$(CLIENTS)/venv/bin/pip install --quiet --requirement tests/clients/requirements.txt
	@cp tests/clients/package.json $(CLIENTS)/
	@cd $(CLIENTS) && PATH="$$PWD/venv/bin:$$PATH" venv/bin/npm install --silent --no-audit --no-fund
	$(CLIENTS)/venv/bin/python tests/clients/run.py

lint: ## Check the format and the lints; every warning is an error
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

fmt: ## Format the code
	$(CARGO) fmt

bench: build models ## Measure the built sidecar (minutes, on a quiet machine); see benches/RESULTS.md
	$(CARGO) bench --locked --bench spine -- --date "$$(date +%F)"

models: ## Fetch and verify the model files
	$(WEIR_DEV) --models-dir models models fetch

doc: ## Build the documentation of the code; every warning is an error
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

deny: ## Check licences, bans and sources of the dependencies (DENY="advisories" asks for known faults too)
	@test -x $(TOOLS)/bin/cargo-deny || \
		$(CARGO) install --locked --no-default-features --version $(DENY_VERSION) --root $(TOOLS) cargo-deny
	$(TOOLS)/bin/cargo-deny check bans licenses sources $(DENY)

fuzz: ## Fuzz every decoder for FUZZ_SECONDS each (needs a nightly toolchain)
	@test -x $(TOOLS)/bin/cargo-fuzz || \
		$(CARGO) install --locked --version $(FUZZ_VERSION) --root $(TOOLS) cargo-fuzz
	@for target in $(FUZZ_TARGETS); do \
		echo "== $$target"; \
		corpus=tests/fuzz/corpus/$$target; seeds=fixtures/wire/$${target#*_}; \
		mkdir -p $$corpus; test -d $$seeds || seeds=fixtures/wire; \
		PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" $(CARGO) +nightly fuzz run --fuzz-dir tests/fuzz $$target $$corpus $$seeds -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=65536 || exit 1; \
	done

cuda: ## Build the release binary for an NVIDIA GPU (needs nvcc, see docs/cuda.md)
	@command -v nvcc >/dev/null || { echo "nvcc is not on the PATH: see docs/cuda.md"; exit 1; }
	$(CARGO) build --release --locked --features cuda --target-dir target/cuda

ci: lint test doc deny ## What CI runs

clean: ## Remove what was built; models and data stay
	$(CARGO) clean
