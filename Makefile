# Every target works on a fresh machine with Python >= 3.11 and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
SERVE  := $(VENV)/.installed-serve
DEV    := $(VENV)/.installed-dev
# Errors only: not what pip thinks of its own configuration
PIP_INSTALL := --disable-pip-version-check -qq install --require-hashes
INSTALL := $(BIN)/python requirements/install.py
UNREACHABLE := "Packages could not be installed. This step needs PyPI or a mirror configured for pip (pip config list)."
# pytest in three processes, because tests wait a third of their time; PROCESSES=0 is one that a debugger can stop in
PROCESSES ?= 3
PYTEST := $(BIN)/python -m pytest -n $(PROCESSES) --dist=worksteal
PROJECTS := $(wildcard packages/*/pyproject.toml)

.PHONY: demo test test-unit test-full soak coverage serve bench lint format sync proto diagrams lock clean

demo: $(SERVE)  ## set everything up, find the faces in a photo, leave nothing running
	@$(BIN)/mien demo

test: $(DEV)  ## what a change can break, in minutes
	@$(BIN)/mien models pull default
	@$(PYTEST)

test-unit: $(DEV)  ## in seconds, while you work
	@$(PYTEST) --tier=unit

test-full: $(DEV)  ## what `make test` leaves out: slow tests, and every property with more examples
	@$(BIN)/mien models pull default
	@HYPOTHESIS_PROFILE=full $(PYTEST) --tier=full

soak: $(DEV)  ## long memory, overload and crash tests
	@$(BIN)/mien models pull default
	@$(BIN)/python -m pytest --tier=soak -o limit=3600

coverage: $(DEV)  ## the branches that `make test` runs, servers and workers included
	@$(BIN)/mien models pull default
	@$(PYTEST) --cov --cov-report=term:skip-covered --cov-report=html

serve: $(SERVE)  ## the server, in the foreground
	@$(BIN)/mien serve

bench: $(DEV)  ## benchmarks beside their ceilings; see benchmarks/README.md
	@$(BIN)/python benchmarks/extract.py

lint: $(DEV)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy packages/mien/src packages/infsh/src packages/ifr-clients/src benchmarks testing tools

format: $(DEV)
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

sync: $(DEV)  ## generate the clients that block from those for asyncio again
	@$(BIN)/python tools/generate_sync.py

proto: $(DEV)  ## generate the gRPC messages from inference.proto again
	@cd packages/mien/src && $(CURDIR)/$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. mien/nodes/proto/inference.proto

diagrams: $(DEV)  ## render docs/architecture/*.dot again (needs graphviz)
	@$(BIN)/python tools/draw_diagrams.py

lock: $(DEV)  ## pin requirements/*.in again (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" requirements/serve.in -o requirements/serve.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" requirements/dev.in -o requirements/dev.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" requirements/uv.in -o requirements/uv.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" requirements/client-generator.in -o requirements/client-generator.txt

clean:
	rm -rf $(VENV) demo-output .pytest_cache .mypy_cache .ruff_cache htmlcov .coverage*

# uv installs everything else. This Python's pip puts it there; only a Python without pip has to bring one along first.
$(UV): requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Mien needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip $(VENV)
	@if $(PYTHON) -m pip --version >/dev/null 2>&1; then pip="$(PYTHON) -m pip --python $(BIN)/python"; \
	else pip="$(BIN)/python -m pip"; $(BIN)/python -m ensurepip >/dev/null || \
		{ echo "This Python has no pip. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }; fi; \
	$$pip $(PIP_INSTALL) -r $< || { echo $(UNREACHABLE); exit 1; }
	@touch $@

$(SERVE): $(UV) requirements/serve.txt requirements/install.py VERSION $(PROJECTS)
	@echo "Installing the server into $(VENV) (once)"
	@$(INSTALL) requirements/serve.txt $(foreach p,$(PROJECTS),-e $(dir $(p))) || { echo $(UNREACHABLE); exit 1; }
	@touch $@

$(DEV): $(SERVE) requirements/dev.txt
	@echo "Installing the development tools into $(VENV) (once)"
	@$(INSTALL) requirements/dev.txt || { echo $(UNREACHABLE); exit 1; }
	@touch $@
