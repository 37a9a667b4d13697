# Two commands for a newcomer: `make demo` and `make test`.
#
# PIP_OPTIONS goes to pip install, for instance to choose an index with CPU-only builds of torch:
#   make demo PIP_OPTIONS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
VENV ?= .venv
PIP_OPTIONS ?=
DEMO_TRIALS ?= 24
DEMO_EPOCHS ?= 12
DEMO_STORE ?= bitfront.db
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test install lint types unit sanitize bench zoo-check clean help

help:
	@echo "make demo    install, search on real digits, export the knee of the front"
	@echo "make test    install, then lint, types, import contract and all tests"
	@echo "make lint | types | unit | sanitize | bench | zoo-check | clean"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt $(wildcard kernels/native/*)
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "bitfront needs Python 3.11 or newer, but $(PYTHON) is " + sys.version.split()[0] + "; name another with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) -c constraints.txt -e '.[cluster,dashboard,export,gpu,dev]'
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/bitfront search --study digits --store $(DEMO_STORE) --dataset digits --space melius --objectives accuracy,energy --trials $(DEMO_TRIALS) --epochs $(DEMO_EPOCHS) --retrain 3
	$(BIN)/bitfront export digits/knee --store $(DEMO_STORE) --format json,pt2,onnx --to exports
	@echo
	@echo "Look at it:  $(BIN)/bitfront dashboard --store $(DEMO_STORE)"

test: $(STAMP) lint types unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy reads the folders under the names that they are installed as
types: $(STAMP)
	@mkdir -p build/types
	@rm -rf build/types/bitfront
	@mkdir -p build/types/bitfront
	@for part in src/bitfront/*; do ln -s ../../../$$part build/types/bitfront/; done
	@for part in spaces evaluators kernels search dashboard; do ln -s ../../../$$part build/types/bitfront/$$part; done
	$(BIN)/mypy -p bitfront
	PYTHONPATH=build/types $(BIN)/lint-imports

# slow tests that may run side by side; searches and browsers want the machine
APART := tests/evaluators tests/export tests/kernels tests/spaces

unit: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m slow $(APART)
	$(BIN)/python -m pytest -m slow $(APART:%=--ignore=%)

# the native kernels under AddressSanitizer and UndefinedBehaviorSanitizer; `unit` runs it too
sanitize: $(STAMP)
	$(BIN)/python -m pytest tests/kernels/test_sanitizers.py

bench: $(STAMP)
	$(BIN)/python benchmarks/cost.py

# half an hour; ZOO="meliusnet22 resnet*" chooses networks, ZOO=--missing those not yet checked
zoo-check: $(STAMP)
	$(BIN)/python benchmarks/zoo_check.py $(ZOO)

clean:
	rm -rf build dist *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
