# Every target sets up what it needs and is quick when that is done already.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOAK_S ?= 1800
TOPOLOGY ?= simple

COMPILED := build/compiled

.PHONY: demo test test-compiled check compiled bench soak lint format lock clean

demo: $(VENV)/.ready
	@sh .ci/need demo
	$(BIN)/mfalb demo --topology $(TOPOLOGY)

# Everything: the last line is the total of all tests.
test: lint test-compiled $(VENV)/sslyze/.ready $(VENV)/privacyidea/.ready
	@sh .ci/need test
	$(BIN)/pytest -n 3

# The compiled form has to do what the plain one does.
test-compiled: compiled
	@sh .ci/need test
	PYTHONPATH=$(COMPILED) $(BIN)/pytest -q -n 3 tests/unit/wire tests/unit/balancer/exchange tests/unit/balancer/pools \
		tests/scenarios/test_freeradius_challenge.py tests/scenarios/test_radius_bad_input.py \
		tests/scenarios/test_sms_otp_radius.py tests/scenarios/test_backend_killed.py tests/unit/net \
		tests/scenarios/test_wildcard_binds.py tests/scenarios/test_datagram_forms.py \
		tests/scenarios/test_http_endings.py tests/scenarios/test_http_proxying.py tests/scenarios/test_http_bad_input.py \
		tests/scenarios/test_http_bad_backends.py tests/scenarios/test_portal_sessions.py tests/scenarios/test_sms_otp_sdk.py \
		tests/scenarios/test_shared_pins_radius.py tests/scenarios/test_shared_pins_sdk.py

# What to run before each commit: under a minute, no network, no programs.
check: lint
	$(BIN)/pytest -n auto tests/unit tests/house

lint: $(VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The RADIUS data path as C extensions, apart from the sources:  PYTHONPATH=build/compiled .venv/bin/mfalb serve ...
compiled: $(COMPILED)/.ready

$(COMPILED)/.ready: $(VENV)/.ready setup.py $(shell find mfalb -name '*.py')
	@sh .ci/need compiled
	rm -rf $(COMPILED)
	MFALB_COMPILE=1 $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --target $(COMPILED) .
	@touch $@

# The short form, some twelve minutes; `bench/radius.py --help` and its siblings show how to measure longer or less.
bench: $(VENV)/.ready compiled
	@sh .ci/need bench
	$(BIN)/python bench/radius.py
	$(BIN)/python bench/failover.py
	$(BIN)/python bench/https.py
	$(BIN)/python bench/pins.py
	$(BIN)/python bench/workers.py

# SOAK_S seconds in all: wrong packets by the million, ten minutes of killing servers, five of servers that do everything
# wrong, then the scenarios over and over.
soak: $(VENV)/.ready $(VENV)/sslyze/.ready $(VENV)/privacyidea/.ready
	@sh .ci/need test
	@sh .ci/soak $(SOAK_S) $(BIN)/pytest

format: $(VENV)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Needs uv (https://docs.astral.sh/uv/). No index URL may get into the lock: it names one machine's mirror.
lock:
	@PATH="$$PATH:$(BIN)"; command -v uv >/dev/null || { echo "make lock needs uv: pipx install uv" >&2; exit 1; }; \
	uv pip compile pyproject.toml --all-extras --python-version 3.11 --no-emit-index-url --generate-hashes \
		--no-header -o .ci/requirements.lock; \
	for tool in sslyze privacyidea; do \
		uv pip compile .ci/$$tool.in --python-version 3.11 --no-emit-index-url --generate-hashes \
			--no-header -o .ci/$$tool.lock || exit 1; \
	done

clean:
	rm -rf $(VENV) build dist run *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.ready: .ci/requirements.lock pyproject.toml
	@PYTHON="$(PYTHON)" sh .ci/need venv
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r .ci/requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

# A TLS scanner that wants an older cryptography than we have, and an MFA server that wants sixty packages of its own. They
# lie in our environment and share nothing with it.
$(VENV)/sslyze/.ready $(VENV)/privacyidea/.ready: $(VENV)/%/.ready: .ci/%.lock $(VENV)/.ready
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r .ci/$*.lock
	@touch $@
