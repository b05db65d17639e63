# Two commands matter: `make demo` and `make test`. Both do all the set-up on a machine with Python >= 3.11.
PYTHON ?= python3
BIN := .venv/bin
# Options of `make bench-isolation`, `bench-tensors`, `bench-transport`, `bench-overload`, `bench-growth`, `bench-control`, `bench-flip` and `compare`; PEERS: whom to compare with
BENCH ?=
PEERS ?=

.PHONY: help install demo test test-slow fuzzer explore lint bench bench-isolation bench-tensors bench-transport
.PHONY: bench-overload bench-growth bench-control bench-flip compare protos protos-kept lock clean

help: ## Lists the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort

.venv/installed: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Cutover needs Python >= 3.11; run: make PYTHON=/path/to/python3.11")'
	@echo "installing into .venv; this takes a minute or two"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

install: .venv/installed ## Makes .venv with everything in it, the cutover command included

demo: install ## A model release on real data, from first shadow copy to flip and back
	@$(BIN)/python -m loadtests.demo

# Files stay whole, for what their tests share; each process may start a database, so there are not many.
test: install ## The tests, without those marked slow, in a process for each core
	$(BIN)/python -m pytest -m "not slow" --numprocesses auto --maxprocesses 4 --dist loadfile

test-slow: install fuzzer ## The slow tests
	$(BIN)/python -m pytest -m slow

fuzzer: install # Where it has no wheel, the tests that are guided by coverage are skipped, and say so.
	@$(BIN)/python -c 'import atheris' 2>/dev/null \
	  || $(BIN)/pip install --quiet --disable-pip-version-check --only-binary=:all: 'atheris>=3.0,<4' || true

explore: install ## The property tests with examples never drawn before; print what fails, keep it as a test
	HYPOTHESIS_PROFILE=explore $(BIN)/python -m pytest tests/properties tests/unit

lint: install ## ruff, mypy, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install ## Throughput and CPU per request against grpc.aio and ONNX Runtime; needs h2load (nghttp2-client)
	@$(BIN)/python -m tests.bench

bench-isolation: install ## What a shadow tens of times as slow as production costs it, with a core free and without
	@$(BIN)/python -m tests.bench.isolation $(BENCH)

bench-tensors: install ## Images through the gateway beside the same model in a loop, with and without shared memory; needs h2load
	@$(BIN)/python -m tests.bench.tensors $(BENCH)

bench-transport: install ## Our transport beside grpc.aio, both echoing; BENCH="--baseline REV": beside itself at a git revision
	@$(BIN)/python -m tests.bench.transport $(BENCH)

bench-overload: install ## Ten times the load that a model can answer; draws loadtests/overload.svg; needs h2load
	@$(BIN)/python -m loadtests.overload $(BENCH)

bench-growth: install ## CPU per request with 1,000 models and with 10,000 overrides beside 1 model; needs h2load
	@$(BIN)/python -m tests.bench.growth $(BENCH)

bench-control: install ## What starts, changes and looks cost with 1,000 models of five versions beside 1; workers are stand-ins
	@$(BIN)/python -m tests.bench.control $(BENCH)

bench-flip: install ## How long a flip takes with four proxies and everything warm
	@$(BIN)/python -m tests.bench.flip $(BENCH)

compare: install ## Beside Triton, MLServer, KServe and nginx, installed on first use; PEERS="triton cutover": some
	@$(BIN)/python -m loadtests.compare $(PEERS) $(BENCH)

protos: install ## Regenerates the protobuf modules
	$(BIN)/python -m protos.generate

protos-kept: install ## Takes today's protos over as what clients may rely on; refuses what would break one
	$(BIN)/python -m tests.house.descriptors

UV_COMPILE := uv pip compile --quiet --universal --no-header --no-annotate --no-emit-index-url --generate-hashes

lock: ## Pins what pyproject.toml allows today: everything but the fuzzer, and what a container needs; needs uv
	$(UV_COMPILE) --upgrade --extra dev pyproject.toml --output-file requirements.lock
	sed -E '/--hash/d; s/ \\$$//' requirements.lock | $(UV_COMPILE) --constraints - --extra postgres pyproject.toml --output-file deploy/requirements.lock

clean: ## Removes .venv and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
