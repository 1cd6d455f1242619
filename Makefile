# `make` prints what there is. CI runs the same commands that you type.

CARGO ?= cargo
# What is built is looked for below target.
unexport CARGO_TARGET_DIR
# The models are fetched by our own binary; in development that is the quick build.
WEIR_DEV = $(CARGO) run --quiet --locked --
TOOLS = target/tools
CLIENTS = target/clients
OPENCLAW = target/openclaw
DENY_VERSION = 0.20.2
FUZZ_VERSION = 0.13.2
CUDA_KIT = $(CURDIR)/target/cuda-toolkit/nvidia/cu13
CUDA_WHEELS = nvidia-cuda-nvcc==13.0.* nvidia-cuda-crt==13.0.* nvidia-nvvm==13.0.* nvidia-cuda-cccl==13.0.* \
	nvidia-cuda-runtime==13.0.* nvidia-cuda-nvrtc==13.0.* nvidia-curand==10.4.0.* nvidia-cublas==13.*
CUDA_DO ?= build --release
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 1800
PROTOCOLS = openai_chat openai_completions openai_responses anthropic gemini ollama_chat
FUZZ_TARGETS ?= sse splice rules gguf request_ollama_generate $(PROTOCOLS:%=request_%) $(PROTOCOLS:%=reply_%)

.DEFAULT_GOAL := help
.PHONY: help run build test test-clients test-openclaw lint fmt bench bench-embed bench-store bench-cache train models doc deny fuzz soak cuda cuda-toolkit ci clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## Fetch the models, build, and start the sidecar on 127.0.0.1:4100
	./target/release/weir --models-dir models models fetch
	./target/release/weir --models-dir models serve

build: ## Build the release binary, target/release/weir
	$(CARGO) build --release --locked

test: models ## Fetch the models and run every test
	$(CARGO) test --locked

test-clients: build models ## Run real SDKs (Python and Node, installed below target) against the sidecar
	@mkdir -p $(CLIENTS)
	@test -x $(CLIENTS)/venv/bin/python || python3 -m venv $(CLIENTS)/venv
	@$(CLIENTS)/venv/bin/pip install --quiet --requirement tests/clients/requirements.txt
	@cp tests/clients/package.json $(CLIENTS)/
	@cd $(CLIENTS) && PATH="$$PWD/venv/bin:$$PATH" venv/bin/npm install --silent --no-audit --no-fund
	$(CLIENTS)/venv/bin/python tests/clients/run.py

test-openclaw: build models ## Run a real agent, OpenClaw from npm (installed below target), against the sidecar (minutes)
	@mkdir -p $(OPENCLAW)
	@test -x $(OPENCLAW)/venv/bin/python || python3 -m venv $(OPENCLAW)/venv
	@$(OPENCLAW)/venv/bin/pip install --quiet --requirement tests/openclaw/requirements.txt
	@cp tests/openclaw/package.json $(OPENCLAW)/
	@cd $(OPENCLAW) && PATH="$$PWD/venv/bin:$$PATH" venv/bin/npm install --silent --no-audit --no-fund
	$(OPENCLAW)/venv/bin/python tests/openclaw/run.py

lint: ## Check the format and the lints; every warning is an error
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

fmt: ## Format the code
	$(CARGO) fmt

bench: build models ## Measure the built sidecar (minutes, on a quiet machine); see benches/RESULTS.md
	$(CARGO) bench --locked --bench spine -- --date "$$(date +%F)"

bench-embed: build models ## Measure the encoder next to ONNX Runtime and sentence-transformers (see benches/embed)
	@test -x target/bench/venv/bin/python || python3 -m venv target/bench/venv
	target/bench/venv/bin/pip install --quiet --requirement benches/embed/requirements.txt
	./target/release/weir --models-dir models bench embed --precision int8,bf16,f32
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE target/bench/venv/bin/python benches/embed/rivals.py \
		--model models/minilm --texts fixtures/sentences/varied.txt
	./target/release/weir --models-dir models bench embed --precision int8 --quick

bench-store: build ## Measure the store next to plain hnsw_rs and usearch (minutes; BENCH="--entries 1000000" for more)
	@test -x target/bench/venv/bin/python || python3 -m venv target/bench/venv
	target/bench/venv/bin/pip install --quiet --requirement benches/store/requirements.txt
	./target/release/weir bench store $(BENCH)
	$(CARGO) bench --locked --bench store -- 1000 10000
	target/bench/venv/bin/python benches/store/rivals.py 1000 10000 100000

bench-cache: build models ## Score the cache on labelled questions next to fixed thresholds and vCache (BENCH="--seeds 20 --http")
	./target/release/weir --models-dir models bench cache --data fixtures/decisions $(BENCH)

train: build models ## Make the judge's weights anew from fixtures/decisions
	./target/release/weir --models-dir models train

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

soak: ## Half an hour of mixed faults of providers (SOAK_SECONDS): no client may see one
	WEIR_LAB_SOAK_SECONDS=$(SOAK_SECONDS) $(CARGO) test --locked --test it -- --nocapture under_mixed_faults

cuda: ## Build the release binary for an NVIDIA GPU (needs nvcc or `make cuda-toolkit`, see docs/cuda.md)
	@command -v nvcc >/dev/null || test -x $(CUDA_KIT)/bin/nvcc || \
		{ echo "nvcc is not on the PATH: run \`make cuda-toolkit\` first, or see docs/cuda.md"; exit 1; }
	if command -v nvcc >/dev/null; then \
		$(CARGO) $(CUDA_DO) --locked --features cuda --target-dir target/cuda; \
	else \
		CUDA_HOME=$(CUDA_KIT) CUDA_PATH=$(CUDA_KIT) NVCC=$(CUDA_KIT)/bin/nvcc PATH="$(CUDA_KIT)/bin:$$PATH" \
		CUDA_COMPUTE_CAP=$${CUDA_COMPUTE_CAP:-90} CUDARC_CUDA_VERSION=13000 RUSTFLAGS="-L native=$(CUDA_KIT)/lib" \
		$(CARGO) $(CUDA_DO) --locked --features cuda --target-dir target/cuda; \
	fi

cuda-toolkit: ## Get what `make cuda` needs from Python wheels, below target (2.5 GB; no GPU is needed to build)
	@mkdir -p target/cuda-toolkit/wheels
	python3 -m pip download --quiet --no-deps --dest target/cuda-toolkit/wheels $(CUDA_WHEELS)
	@for wheel in target/cuda-toolkit/wheels/*.whl; do python3 -m zipfile -e $$wheel target/cuda-toolkit; done
	@chmod +x $(CUDA_KIT)/bin/* $(CUDA_KIT)/nvvm/bin/*
	@cd $(CUDA_KIT)/lib && for library in *.so.*; do ln -sf $$library $${library%%.so.*}.so; done
	@# What stands in for the driver where there is none, to link against: every call says "no device".
	@grep -rhoE 'fn cu[A-Z][A-Za-z0-9_]*' $$($(CARGO) metadata --locked --format-version 1 --features cuda \
		| python3 -c 'import json,os,sys; print(next(os.path.dirname(p["manifest_path"]) for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"))')/src/driver/sys \
		| sort -u | sed 's/fn \(.*\)/int \1(void) { return 100; }/' > $(CUDA_KIT)/lib/stub.c
	$(CC) -shared -fPIC -Wl,-soname,libcuda.so.1 -o $(CUDA_KIT)/lib/libcuda.so $(CUDA_KIT)/lib/stub.c
	@ln -sf libcuda.so $(CUDA_KIT)/lib/libcuda.so.1

ci: lint test doc deny ## What CI runs

clean: ## Remove what was built; models and data stay
	$(CARGO) clean
