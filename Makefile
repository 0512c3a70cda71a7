# Every target sets up what it needs and is quick when that is done already.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench soak setup format lock clean

demo: $(VENV)/.ready
	@sh .ci/need demo
	$(BIN)/mfalb demo

test: check
	@sh .ci/need test
	$(BIN)/pytest tests/scenarios

check: $(VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/unit tests/house

format: $(VENV)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
