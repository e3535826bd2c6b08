# Two commands on a fresh machine: `make demo` and `make test`. Both make the environment they need. What continuous
# integration runs besides, `make test-long` and `make containers`, takes longer (docs/decisions/0012-three-suites.md).
# Nothing is needed but git, make and Python 3.11 or later with venv.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=

export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-long attacks faults containers images container-demo check lint format types rooms environment constraints docs clean

# A new environment holds no bytecode: what the demonstration imports is compiled by it and kept, the rest is not, which
# saves a minute.
demo: $(VENV)/.installed
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/fedminet demo $(ARGS)

# Two processes with a thread each: two threads each would wait for each other. Bytecode of the tree is kept, which saves a
# second of every program that a test starts. Where tests write: tests/support/memory_folder.py.
TESTING := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest
PYTEST  := OMP_NUM_THREADS=1 $(TESTING) -n 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.installed-dev
	$(MAKE) --no-print-directory -j 2 -O check
	$(PYTEST) -m 'not long and not containers' $(ARGS)

# Deployments whose processes are killed, cut off and restarted; trainings and commands that take minutes.
test-long: $(VENV)/.installed-dev
	$(PYTEST) -m 'long and not containers' $(ARGS)

# What docs/security.md says that an attacker cannot do, tried; a part of the two suites above.
attacks: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -v tests/attacks tests/server/processes/test_walls.py tests/server/backup/test_signature.py \
	  tests/server/runs/test_damaged_runs.py tests/minet_core/test_ledger.py tests/client/admission/test_changed_federation.py \
	  tests/e2e/test_deployment.py $(ARGS)

# Faults at their full size, for hours: hostile replies, killed processes, cut links. ARGS: run, robustness or damage.
faults: $(VENV)/.installed-dev
	$(BIN)/python -m tests.faults $(ARGS)

# Builds the images and runs the federation in containers. Needs a container engine, or root to start one; without,
# the tests say so and are skipped, and fail where REQUIRE_CONTAINERS=1. docker/install-engine.sh installs one on Debian.
containers: $(VENV)/.installed-dev
	TMPDIR=$${TMPDIR:-/tmp} $(TESTING) -v -s -m containers tests/containers $(ARGS)

# The images alone, in the engine that the tests will find: theirs is a matter of seconds then.
images: $(VENV)/.installed-dev
	$(BIN)/python -m tests.containers.images

# The demonstration in containers; the images are those of docker/build.sh.
container-demo:
	docker/demo.sh demo-containers $(ARGS)

# Four checkers that know nothing of each other: -j 2 runs two at a time.
check: types rooms lint format

types: $(VENV)/.installed-dev
	$(BIN)/mypy

rooms: $(VENV)/.installed-dev
	$(BIN)/lint-imports

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .

format: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .

environment: $(VENV)/.installed-dev

# A stamp newer than the files that decide what is installed: a second call starts in seconds.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fedminet needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	$(BIN)/python -m pip install --quiet --no-compile --editable .
	touch $@

# Some packages carry files that are no Python of this version, so compiling them may fail.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[dev]'
	-$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib
	touch $@

# Made from a new environment, after a wish in pyproject.toml has changed.
constraints:
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//' > constraints.new
	{ echo '# Every version the environment installs, direct and indirect. Made by: make constraints'; \
	  { cat constraints.new; echo 'setuptools==84.2.1'; } | LC_ALL=C sort -f; } > constraints.txt
	rm constraints.new

# Pages that are written from the code.
docs: $(VENV)/.installed-dev
	$(BIN)/python -m fedminet.configuration_page > docs/configuration.md

clean:
	rm -rf $(VENV) build *.egg-info
