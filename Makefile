# `make demo` and `make test` set up what they need, once; see README.md.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo reference readme test test-slow lint lock docs bench setup wheels clean

# PYTHON=...: the interpreter; by default the newest of CPython 3.11 to 3.13 that runs here.
PYTHON ?=
# WHEELS=folder: install from the files that `make wheels` collected there, without a network.
WHEELS ?=
# STACK=onedl: OneDL's fork of mmdet, in an environment and a folder of results of its own (docs/environment.md).
STACK ?=
ifneq ($(filter-out onedl,$(STACK)),)
$(error STACK=$(STACK): expected onedl, or nothing for mmdet 3.3.0)
endif
LOCK := requirements$(STACK:%=.%).lock
VENV := .venv$(STACK:%=-%)
RESULTS := results$(STACK:%=/%)
IN_RESULTS := $(STACK:%=results=results/%)
BIN := $(VENV)/bin
# Written last: without it a half-built environment is built again from where pip left off.
READY := $(VENV)/.ready
SCALE ?= mini

setup: $(READY)

$(READY): $(LOCK) workflows/setup.sh
	@PYTHON="$(PYTHON)" VENV=$(VENV) LOCK=$(LOCK) WHEELS="$(WHEELS)" bash workflows/setup.sh
	@cp $(LOCK) $@

# Collects what an environment needs on a machine without a network, in the folder `wheels` or WHEELS.
wheels: $(READY)
	@VENV=$(VENV) LOCK=$(LOCK) bash workflows/setup.sh wheels "$(or $(WHEELS),wheels)"

# Snakemake's own lock outlives a killed Snakemake; one of the system's does not, so `make demo` uses that where
# there is flock (not on macOS).
demo: $(READY)
	@mkdir -p results; exec 9>results/.demo.lock; nolock=; \
	  if command -v flock >/dev/null; then nolock=--nolock; \
	    flock --nonblock 9 || { echo "make: another make demo runs in this folder; wait until it ends, or stop it" >&2; exit 1; }; fi; \
	  PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 snakemake $$nolock --config scale=$(SCALE) $(IN_RESULTS)
	@$(BIN)/corrloss show scale=$(SCALE) $(IN_RESULTS)
	@$(BIN)/corrloss compare $(RESULTS)/$(SCALE) || true

# What other machines compare with: copies the results of a scale to results/reference, which is committed.
# REFERENCE=folder: to another folder, for tables that were made on another machine.
REFERENCE ?= results/reference/$(SCALE)
reference: $(READY)
	@mkdir -p $(REFERENCE)/tables
	@cp $(RESULTS)/$(SCALE)/runs.csv $(REFERENCE)/
	@cp $(RESULTS)/$(SCALE)/tables/*.csv $(RESULTS)/$(SCALE)/tables/*.md $(REFERENCE)/tables/
	@$(BIN)/corrloss proxy $(RESULTS)/$(SCALE)/runs.csv > $(REFERENCE)/proxy.md
	@(date -u +%F; git rev-parse HEAD; uname -srm; grep -m 1 "model name" /proc/cpuinfo || true; echo "$$(getconf _NPROCESSORS_ONLN) cores"; \
	  $(BIN)/python -c "import torch; print(torch.backends.cpu.get_cpu_capability())"; \
	  $(BIN)/python -m pip freeze --exclude-editable) > $(REFERENCE)/environment.txt

readme: $(READY)
	@$(BIN)/corrloss readme

test: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile --durations 10 -m "slow and not sweep"

# Rewrites the locks of both stacks; their versions are kept where pyproject.toml allows them.
lock: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash workflows/lock.sh

lint: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash workflows/lock.sh --check
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/snakefmt --check Snakefile workflows
	@PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --lint
	@$(MAKE) --no-print-directory docs

# Strict: a broken link, a name that the API pages lack or a docstring with an unknown argument is an error.
# It needs no network. The search of the site needs a server, which browsers demand for it.
docs: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" NO_MKDOCS_2_WARNING=1 mkdocs build --strict
	@echo "site/index.html; with search: $(BIN)/python -m http.server --directory site"

# Those left out train for an hour, or need a GPU or libraries that are not in the lock; each says how to run it.
bench: $(READY)
	@for bench in $(filter-out benchmarks/mini_recipe.py benchmarks/integrations.py benchmarks/full_width.py,$(wildcard benchmarks/*.py)); do echo "== $$bench"; OMP_NUM_THREADS=1 $(BIN)/python "$$bench"; done

clean:
	rm -rf $(filter-out results/reference,$(wildcard results/*)) data site .snakemake
