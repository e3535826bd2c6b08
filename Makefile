# Two commands on a fresh machine: `make demo` and `make test`. Both make the environment they need. What continuous
# integration runs besides, `make test-long` and `make containers`, takes longer (docs/decisions/0012-three-suites.md).
# Nothing is needed but git, make and Python 3.11 or later with venv.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=

export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-long attacks faults containers container-demo check environment constraints docs clean fuzz

# A new environment holds no bytecode: what the demonstration imports is compiled by it and kept, the rest is not, which
# saves a minute.
demo: $(VENV)/.installed
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/fedminet demo $(ARGS)

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.installed-dev check
	$(PYTEST) -m 'not long and not containers' $(ARGS)

# Deployments whose processes are killed, cut off and restarted; trainings and commands that take minutes.
test-long: $(VENV)/.installed-dev
	$(PYTEST) -m 'long and not containers' $(ARGS)

# What docs/security.md says that an attacker cannot do, tried, as a table of before and now; a part of the two suites
# above.
attacks: $(VENV)/.installed-dev
	$(BIN)/python -m tests.attacks $(ARGS)

# Faults at their full size, for hours: hostile replies, killed processes, cut links. ARGS: run, robustness or damage.
faults: $(VENV)/.installed-dev
	$(BIN)/python -m tests.faults $(ARGS)

# Ten thousand damaged inputs for every reader of foreign bytes; prints the table of docs/results/readers.md. An hour on
# one core; `make test` has a share of it. ARGS: --inputs, --seed, --only a reader.
fuzz: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz $(ARGS)

# Builds the images and runs the federation in containers. Needs a container engine, or root to start one; without,
# the tests say so and are skipped, and fail where REQUIRE_CONTAINERS=1. docker/install-engine.sh installs one on Debian.
containers: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -v -s -m containers tests/containers $(ARGS)

# The demonstration in containers; the images are those of docker/build.sh.
container-demo:
	docker/demo.sh demo-containers $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

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
