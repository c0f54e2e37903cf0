# Everything that one does with the shop. `make` alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
NAMED_PYTHON := $(if $(filter undefined,$(origin PYTHON)),,yes)
PYTHON ?= python3
BIN := .venv/bin
IMAGES := localhost/shop
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

# The project is found from here, and the tests' helpers with TESTS. Names of paths reach the shell in variables of the
# environment, because a folder may be called anything.
export PYTHONPATH := $(CURDIR)
export PYTHON
TESTS := PYTHONPATH="$$PYTHONPATH:$$PYTHONPATH/test"

# What the caller's environment says to other programs of Python, Node.js and the shell is not for ours.
unexport PYTHONHOME PYTHONUSERBASE PYTHONSTARTUP PYTHONOPTIMIZE PYTHONWARNINGS PYTHONDEVMODE PYTHONSAFEPATH PYTHONPLATLIBDIR
unexport PYTHONINSPECT PYTHONPYCACHEPREFIX PYTHONCASEOK PYTHONEXECUTABLE PYTHONDONTWRITEBYTECODE PYTHONUTF8 PYTHONIOENCODING
unexport NODE_ENV NODE_OPTIONS NODE_PATH CDPATH BASH_ENV ENV GREP_OPTIONS VIRTUAL_ENV

# A variable with a typing error would be ignored without a word.
VARIABLES := PYTHON BASE_URL BUILDER E2E SEEDS FROM PAIRS MUTANTS URL ARGS PARTICIPANT_KEY QUICK PEERS READS GROWTH SOAK OVERLOAD \
  SHELL MAKEFLAGS IMAGES VERSION SHOP_% PG_BIN_DIR DATABASE_URL LOG_%
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
$(foreach name,$(filter-out $(VARIABLES),$(GIVEN)),$(error $(name) is not a variable of this Makefile; `make` tells which are))
# One digit after the other is taken away: nothing may be left.
without_digits = $(if $(2),$(call without_digits,$(subst $(firstword $(2)),,$(1)),$(wordlist 2,10,$(2))),$(1))
$(foreach name,SEEDS FROM SOAK,$(if $(call without_digits,$($(name)),0 1 2 3 4 5 6 7 8 9),$(error $(name) must be a whole number)))

help: ## list the targets
	@awk -F':.*## ' '/^[a-z][a-z0-9-]*:.*## /{printf "  make %-12s %s\n", $$1, $$2} /^## /{printf "%19s%s\n", "", substr($$0, 6)}' Makefile

# Looked at every time, because a Python that was upgraded or a folder that was moved leaves an environment that is broken.
.venv/installed: FORCE
	@$(if $(NAMED_PYTHON),,PYTHON=) $(BIN)/python -I tools/install.py is-sound >/dev/null 2>&1 || { \
	  "$$PYTHON" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or newer is needed (PYTHON=... names one)" >&2; exit 1; }; \
	  exec "$$PYTHON" -I tools/install.py packages; }

test/node_modules/installed: test/package.json test/package-lock.json
	@"$$PYTHON" -I tools/install.py newman

install: .venv/installed ## install the pinned Python packages into .venv

lock: ## pin the newest allowed versions of everything again
	"$$PYTHON" -c 'import tomllib; each = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; print(*each["two-phase"], *each["chassis"], sep="\n")' \
	  | uv pip compile --upgrade --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 - -o requirements.lock
	uv pip compile --upgrade --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 --extra dev --extra bench -c requirements.lock pyproject.toml -o requirements-dev.lock

up: .venv/installed ## run the shop on 127.0.0.1:$SHOP_PORT (8080) until Ctrl-C
	@exec $(BIN)/python -m shop up

demo: .venv/installed ## start it, run the homework scenario, show every answer, stop it
	@exec $(BIN)/python -m shop demo

example: .venv/installed ## run another trade on two_phase: flight, hotel and car (examples/trip)
	@$(TESTS) $(BIN)/python -m trip

newman: test/node_modules/installed ## run the collection against the local gateway, or BASE_URL=host:port
	@address="$${BASE_URL:-127.0.0.1:$${SHOP_PORT:-8080}}"; \
	case "$$address" in *[/[:space:]]*|"") echo "BASE_URL must be host:port" >&2; exit 2;; esac; \
	past="127.0.0.1,localhost,$${NO_PROXY:-$$no_proxy}"; \
	NO_PROXY="$$past" no_proxy="$$past" test/node_modules/.bin/newman run test/hw10.postman_collection.json \
	  --env-var "baseUrl=$$address"

format: .venv/installed ## format the code
	@$(BIN)/ruff format -q . && $(BIN)/ruff check -q --fix .

check: .venv/installed ## format, lint, strict types, architecture, unit tests
	@$(MAKE) --no-print-directory --output-sync --jobs=2 check-code check-unit

check-code:
	@$(BIN)/ruff format --check -q . && $(BIN)/ruff check -q . && $(BIN)/python -m mypy
check-unit:
	@$(BIN)/python -m pytest -q test/unit

test: check .venv/kubernetes .venv/clients test/node_modules/installed ## everything that must hold before a change lands
	@echo "two halves run side by side; each is shown when it has ended"
	@$(MAKE) --no-print-directory --output-sync --jobs=2 test-faults test-services

# The first half mostly waits for processes that start again, and simulates; the second mostly computes.
NOT_SLOW := -q -m "not slow" --durations=20
test-faults:
	@$(BIN)/python -m pytest $(NOT_SLOW) test/faults test/simulation
test-services:
	@$(BIN)/python -m pytest $(NOT_SLOW) test/charts test/integration test/e2e

images: ## build all images with docker, podman or buildah (BUILDER=... names one)
	@builder="$(BUILDER)"; for tool in docker podman buildah; do \
	  test -n "$$builder" || ! $$tool info >/dev/null 2>&1 || builder=$$tool; \
	done; \
	test -n "$$builder" || { echo "docker with a running engine, podman or buildah is needed"; exit 1; }; \
	for package in *_service; do \
	  image="$(IMAGES)/$${package%_service}-service:$(VERSION)"; echo "$$image"; \
	  $$builder build --build-arg SERVICE=$$package -t "$$image" . || exit 1; \
	done

.venv/kubernetes: .venv/installed test/charts/tools.txt
	@$(BIN)/python -I tools/install.py tools test/charts/tools.txt
	@$(BIN)/python -m shop.deploy.kubernetes_tools
	@touch $@

.venv/clients: .venv/installed test/clients/tools.txt
	@$(BIN)/python -I tools/install.py tools test/clients/tools.txt
	@touch $@

manifests: .venv/kubernetes ## render k8s/ and config/ from the chart
	@$(BIN)/python -m shop.deploy.manifests

secrets: .venv/installed ## write random secrets/*.yaml and .env (Compose), unless they are there
	@$(BIN)/python -m shop.deploy.secrets_files

charts: .venv/kubernetes ## check chart and manifests: lint, schemas, policies; no cluster needed
	@$(BIN)/python -m pytest -q test/charts

e2e: .venv/installed test/node_modules/installed ## try everything on the cluster of kubectl (E2E="--help" tells more)
	@$(TESTS) $(BIN)/python -m cluster.e2e $(E2E)

simulate: .venv/installed ## run SEEDS=2000 seeds FROM=0 of the simulation
##   with MUTANTS=1 all mutants; PAIRS=1 all pairs of faults of an order with a key
##   (PAIRS=all: of one without a key as well)
	@$(TESTS) $(BIN)/python -m simulation $(if $(PAIRS),--pairs $(if $(filter all,$(PAIRS)),all,keyed))$(if $(MUTANTS),--mutants)$(if $(PAIRS)$(MUTANTS),,--seeds $(or $(SEEDS),2000) --from $(or $(FROM),0))

faults: .venv/installed ## kill, freeze and restart real processes at every point and under load
	@$(BIN)/python -m pytest -v -rs --tb=short test/faults

model: ## check the protocol's model and that each of its mutants is rejected
	@"$$PYTHON" test/model/check.py

conformance: .venv/installed ## try the rules of the protocol on any participant
##   (URL=http://... PARTICIPANT_KEY=...; ARGS="--help" tells more)
	@$(BIN)/python -m shop conformance $(URL) $(ARGS)

bench: .venv/installed ## measure the shop against everything it is compared with
##   (QUICK=1: c=64; PEERS=0: no DTM; READS=1, GROWTH=1, SOAK=minutes, OVERLOAD=1)
	@exec $(BIN)/python test/bench/$(if $(READS),reads.py,$(if $(GROWTH),growth.py,$(if $(SOAK),soak.py --minutes $(SOAK),$(if $(OVERLOAD),overload.py,run.py $(if $(QUICK),--quick) $(if $(PEERS),--peers $(if $(filter 0,$(PEERS)),never,always))))))

clean: ## remove what was installed and what local runs left
	@"$$PYTHON" -I tools/install.py clean

.PHONY: FORCE help install lock up demo example newman format check check-code check-unit test test-faults test-services images manifests secrets charts e2e simulate faults model conformance bench clean
