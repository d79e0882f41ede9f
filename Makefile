# Everything runs in .venv, with the versions of constraints.txt. `make` alone lists the targets.
#
# Which PyTorch: the small CPU build (about 200 MB) unless told otherwise. On Linux the ordinary package index has only
# the CUDA build (several GB with its libraries), so the CPU build comes from PyTorch's own index, unless pip is set up
# with an index that has it. A machine with CUDA takes the address that https://pytorch.org/get-started names:
#     make setup TORCH_INDEX=https://download.pytorch.org/whl/cu130
# That choice stays: later set-ups keep any build of the pinned version. The address serves for PyTorch alone; all other
# packages, its CUDA libraries included, come from the index pip is set up with.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo study docs check test pythons soak lint format clean force

PYTHON ?= python3
TORCH_INDEX ?=
SONGS ?=
CPU_INDEX := https://download.pytorch.org/whl/cpu
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
BIN := .venv/bin
# -qq leaves only errors. Without compiling, installing takes half the time; Python then compiles what it uses, once, and
# keeps it unless the environment forbids that.
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -qq --no-compile
export PYTHONDONTWRITEBYTECODE :=
# The pins hold in pip's isolated build environments too (two names, for older and newer pip).
PINNED := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt

help: ## list the targets (default)
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 16
	@echo 'Variables:'
	@echo '  PYTHON=python3.12  the Python (3.10 or newer) that .venv is made with'
	@echo '  SONGS=FOLDER       real songs that the study scores its models on too'
	@echo '  TORCH_INDEX=URL    where PyTorch comes from, by default the CPU build; for CUDA the address that pytorch.org'
	@echo '                     names, such as https://download.pytorch.org/whl/cu130'

setup: .venv/.installed .venv/.kernels ## make .venv and install everything, pinned; redone only when the pins change
	@:

# The CPU kernels are optional: without a C++ compiler, or on a CPU that has none, PyTorch computes alone. pip brings
# cmake and ninja where the machine has none.
.venv/.kernels: .venv/.installed $(wildcard kernels/*.toml kernels/*.txt kernels/bandsplit_kernels/*.py kernels/src/*)
	@if ! command -v "$${CXX:-c++}" >/dev/null 2>&1; then \
	  echo 'No C++ compiler: the CPU kernels are left out, and separation on CPUs is slower'; \
	elif echo 'Building the CPU kernels'; \
	    ! $(PINNED) $(PIP) --force-reinstall --no-deps ./kernels >.venv/kernels.log 2>&1; then \
	  echo 'The CPU kernels were not built, and separation on CPUs is slower; .venv/kernels.log says why'; \
	fi
	@touch $@

.venv/.installed: .venv/.base
	@echo 'Installing the tools of development'
	@$(PINNED) $(PIP) -e '.[train,dev]'
	@touch $@

# All but the tools of development, which would take the demo's time.
.venv/.base: pyproject.toml constraints.txt $(if $(TORCH_INDEX),force)
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then \
	    echo "bandsplit needs Python 3.10 or newer; '$(PYTHON)' says: $$($(PYTHON) --version 2>&1 | tail -n 1)"; \
	    echo "Install one (Debian, Ubuntu: apt install python3 python3-venv) or name one: make PYTHON=/path/to/python3"; \
	    exit 1; \
	  fi >&2; \
	  if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "'$(PYTHON)' lacks the modules venv and ensurepip, which make the environment .venv."; \
	    echo "Install them (Debian, Ubuntu: apt install python3-venv) or name a Python: make PYTHON=/path/to/python3"; \
	    exit 1; \
	  fi >&2; \
	  echo "Making .venv with $$($(PYTHON) --version)"; \
	  $(PYTHON) -m venv --clear .venv; \
	fi
	@if [ -n "$(TORCH_INDEX)" ]; then \
	  echo "Installing PyTorch $(TORCH) from $(TORCH_INDEX)"; \
	  $(PIP) --force-reinstall --no-deps --index-url "$(TORCH_INDEX)" torch==$(TORCH); \
	elif ! $(BIN)/python -c 'from importlib.metadata import version; assert version("torch").split("+")[0] == "$(TORCH)"' \
	    2>/dev/null; then \
	  echo 'Installing PyTorch $(TORCH), CPU build (about 200 MB)'; \
	  $(PIP) --no-deps torch==$(TORCH)+cpu 2>/dev/null || \
	    $(PIP) --no-deps --index-url $(CPU_INDEX) torch==$(TORCH); \
	fi
	@echo 'Installing bandsplit and what it needs'
	@$(PINNED) $(PIP) -e '.[train]'
	@touch $@

demo: .venv/.base ## make a small data set, train on it, evaluate, separate a song: three minutes after the set-up
	@$(BIN)/bandsplit demo

study: .venv/.base ## small studies on synthetic songs: the paper's variants, each family at one price; 90 minutes, resumable
	@$(BIN)/bandsplit data synth study/songs --songs 60 --valid 6 --test 12 --minutes 0.2 --sample-rate 16000
	@for name in mini table1-mini; do \
	  $(BIN)/bandsplit study run $$name --data study/songs --jobs 2 $(if $(SONGS),--also '$(SONGS)'); \
	  $(BIN)/bandsplit study tables $$name; \
	  $(BIN)/bandsplit study figures $$name; \
	  $(BIN)/bandsplit study report $$name --data study/songs; \
	done

docs: .venv/.base ## build the site of docs/ in build/site, with search; every link in it is checked
	@$(PINNED) $(PIP) -e '.[train,docs]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo 'build/site/index.html; with search: $(BIN)/python -m http.server -b 127.0.0.1 -d build/site'

check: lint ## lint, then run the tests that are not marked slow
	@$(BIN)/pytest -n 2 --dist worksteal -m 'not slow'

test: lint ## lint, then run all tests
	@$(BIN)/pytest -n 2 --dist worksteal

pythons: ## install on each Python from 3.10 to 3.13 that is found, and run the fast part of the suite there
	@$(PYTHON) benchmarks/pythons.py

soak: setup ## disturb real commands with signals and kills, for an hour: nothing half done may remain
	@$(BIN)/python benchmarks/soak.py

lint: setup ## check style, docstrings and types: all that pre-commit runs
	@$(BIN)/pre-commit run --all-files

format: setup ## rewrite the code in the project's style
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

clean: ## remove .venv, caches and build products; data, runs and results stay
	@rm -rf .venv build dist src/*.egg-info .pytest_cache .ruff_cache
	@find src tests -type d -name __pycache__ -prune -exec rm -rf {} +
