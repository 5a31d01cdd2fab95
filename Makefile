# make setup   .venv with the product and the test tools (called by the other two)
# make run     serve on http://127.0.0.1:8000 with an agent `hello` one can call at once
# make test    everything that must hold before a change goes in
# make placements  every scenario of the CLIs in sandboxes and containers, not only one
# make images  of the gateway, of what agents placed in containers run in, and of PostgreSQL: see docker/compose.yaml

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLIENTS := tests/clients
AT_ONCE ?= 3 # test files; half of what they do is wait

.PHONY: setup run test check fmt lock crash bench bench-containers clis clients images placements

setup: $(VENV)/.installed

$(VENV)/.installed: docker/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Switchboard needs Python 3.11 or newer; this is %d.%d. Try: make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement docker/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

run: setup
	@$(BIN)/switchboard serve

clis: tests/node_modules/.installed

tests/node_modules/.installed: tests/package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing: the runtimes' CLIs are installed with it. Install Node.js 20 or newer." >&2; exit 1; }
	cd tests && npm install --no-save --no-audit --no-fund --loglevel=error
	touch $@

# Other people's A2A clients, each in an environment of its own.
clients: $(CLIENTS)/.venv-sdk03/.installed $(CLIENTS)/.venv-adk/.installed $(CLIENTS)/node_modules/.installed

$(CLIENTS)/.venv-%/.installed: $(CLIENTS)/%.lock
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	touch $@

$(CLIENTS)/node_modules/.installed: $(CLIENTS)/package-lock.json
	cd $(CLIENTS) && npm install --no-save --no-audit --no-fund --loglevel=error
	touch $@

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	@if command -v npm >/dev/null; then $(MAKE) clis clients; else echo "npm is missing: the tests with the real CLIs and with other clients will be skipped"; fi
	@if $(BIN)/python -c 'import os, sys; from adapters.launch.container import unreachable; sys.exit(unreachable(os.environ) or 0)'; \
		then $(MAKE) images BASE=local; else echo "No container engine answers: the tests of containers will be skipped"; fi
	$(BIN)/python -m pytest -n $(AT_ONCE) --dist loadfile --no-loadscope-reorder

placements: setup clis
	$(MAKE) images BASE=local
	SWITCHBOARD_EVERY_PLACEMENT=1 $(BIN)/python -m pytest -n $(AT_ONCE) --dist loadfile tests/e2e/test_sandboxed.py tests/e2e/test_contained.py \
		tests/e2e/test_own_runtime.py

fmt: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# On the engine of DOCKER_HOST. BASE=local: on this machine's own programs, no registry is asked.
images: setup clis
	$(BIN)/python docker/build.py $(if $(BASE),--base $(BASE)) agent gateway postgres

# An hour or so. A part of it: make crash ARGS="alone --rounds 100 --seed 7"
crash: setup
	$(BIN)/python -W ignore -m tests.crash $(ARGS)

bench: setup
	$(BIN)/python -m tests.bench $(ARGS)

# What a container costs beside a process, and how soon what sleeps wakes; needs an engine. One of it: ARGS=image
bench-containers: setup clis
	$(BIN)/python -m tests.bench.containers $(ARGS)

lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
		--group dev --output-file docker/requirements.lock pyproject.toml
	for name in sdk03 adk; do uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--no-annotate --output-file $(CLIENTS)/$$name.lock $(CLIENTS)/$$name.in; done
