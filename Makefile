# Every target works on a fresh machine with Python >= 3.11 and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
SERVE  := $(VENV)/.installed-serve
DEV    := $(VENV)/.installed-dev
# pip's progress bars on a terminal, silence elsewhere
QUIET  := $(shell test -t 1 || echo --quiet)
PROJECTS := $(wildcard packages/*/pyproject.toml)

.PHONY: demo test soak serve bench lint format proto lock clean

demo: $(SERVE)  ## set everything up, find the faces in a photo, leave nothing running
	@$(BIN)/mien demo

test: $(DEV)  ## the whole test suite
	@$(BIN)/mien models pull default
	@$(BIN)/python -m pytest

soak: $(DEV)  ## long memory, overload and crash tests
	@$(BIN)/mien models pull default
	@$(BIN)/python -m pytest -m soak --timeout 3600

serve: $(SERVE)  ## the server, in the foreground
	@$(BIN)/mien serve

bench: $(DEV)  ## benchmarks beside their ceilings; see benchmarks/README.md
	@$(BIN)/python benchmarks/extract.py

lint: $(DEV)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy packages/mien/src packages/infsh/src packages/ifr-clients/src

format: $(DEV)
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

proto: $(DEV)  ## generate the gRPC messages from inference.proto again
	@cd packages/mien/src && $(CURDIR)/$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. mien/nodes/proto/inference.proto

lock: $(DEV)  ## pin requirements/*.in again (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" requirements/serve.in -o requirements/serve.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" requirements/dev.in -o requirements/dev.txt

clean:
	rm -rf $(VENV) demo-output .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Mien needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "Could not make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

$(SERVE): $(VENV)/bin/python requirements/serve.txt $(PROJECTS)
	@echo "Installing the server into $(VENV) (once)"
	@$(PIP) install $(QUIET) --require-hashes -r requirements/serve.txt || \
		{ echo "Packages could not be installed. This step needs PyPI or a mirror configured for pip (pip config list)."; exit 1; }
	@$(PIP) install --quiet --no-deps --no-build-isolation $(foreach p,$(PROJECTS),-e $(dir $(p)))
	@touch $@

$(DEV): $(SERVE) requirements/dev.txt
	@echo "Installing the development tools into $(VENV) (once)"
	@$(PIP) install $(QUIET) --require-hashes -r requirements/dev.txt || \
		{ echo "Packages could not be installed. This step needs PyPI or a mirror configured for pip (pip config list)."; exit 1; }
	@touch $@
