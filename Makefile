# One command each: `make demo` runs the main job, `make test` the checks.  Both install what they need first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo test e2e lint bench image lock clean

help: ## list the targets
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

install: $(STAMP) ## a working .venv/bin/reeve

$(STAMP): pyproject.toml requirements.lock .ci/find-python
	@python="$$(.ci/find-python)" && echo "using $$python" && \
	  { test -x $(BIN)/python || "$$python" -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## watch a leaking LLM service, judge it, verify the audit log
	$(BIN)/reeve demo

lint: $(STAMP) ## ruff, types, the house's import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint ## everything that CI runs
	$(BIN)/python -m pytest
	$(BIN)/reeve check
	$(BIN)/reeve rules test
	$(BIN)/reeve policies test

e2e: $(STAMP) ## real peers, the real kernel, a real Kubernetes node, built with Go (minutes; the first time a quarter hour more)
	@.ci/install-bpf
	@.ci/install-kubernetes
	@if command -v go >/dev/null; then \
	  $(BIN)/python -m pytest tests/e2e --require-peers --timeout 900; \
	else \
	  echo "make e2e: no Go on this machine; the tests against real peers are SKIPPED. Install Go 1.24 or newer." >&2; \
	  $(BIN)/python -m pytest tests/e2e --timeout 900; \
	fi

bench: $(STAMP) ## ratios against a named baseline, in one run
	@.ci/install-bpf
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python -m "benchmarks.$$(basename $$file .py)" || exit 1; done

# TAG, IMAGE, SPACY=yes (100 MB: the profile `presidio`, models) and SOURCE_URL can be set; so can PIP_CERT, as for pip.
IMAGE ?= localhost/reeve
TAG ?= $(shell sed -n 's/^VERSION = "\(.*\)"$$/\1/p' agent/__init__.py)
SPACY ?= no
IMAGE_ARGUMENTS = -f daemonset/Dockerfile --build-arg SPACY=$(SPACY) --build-arg VERSION=$(TAG) \
  --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) \
  --build-arg CREATED=$$(TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null || date -u +%FT%TZ) \
  $(if $(SOURCE_URL),--build-arg SOURCE=$(SOURCE_URL)) \
  $(if $(PIP_CERT),--secret id=authorities$(comma)src=$(PIP_CERT) --build-arg PIP_CERT=/run/authorities.crt)
comma := ,

image: ## $(IMAGE):$(TAG) and $(IMAGE):$(TAG)-ebpf, by docker or buildah
	@if docker info >/dev/null 2>&1; then build="docker build"; \
	elif command -v buildah >/dev/null; then build="buildah bud --layers --ignorefile daemonset/Dockerfile.dockerignore"; \
	else echo "make image: neither docker (with a daemon) nor buildah is here. On Debian: apt-get install buildah" >&2; exit 1; fi; \
	$$build $(IMAGE_ARGUMENTS) --target agent -t $(IMAGE):$(TAG) . && \
	$$build $(IMAGE_ARGUMENTS) --target agent-ebpf -t $(IMAGE):$(TAG)-ebpf .

lock: ## resolve requirements.lock, and the part of it that images hold (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra dev \
	  --no-annotate --no-header -o requirements.lock pyproject.toml .ci/build-requirements.in
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --constraint requirements.lock \
	  --no-annotate --no-header -o requirements-runtime.lock pyproject.toml

clean: ## remove what the build made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
