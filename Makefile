# Two commands on a fresh machine: `make demo` and `make test`. Both make the environment they need. What continuous
# integration runs besides, `make test-long` and `make containers`, takes longer (docs/decisions/0012-three-suites.md).
# Nothing is needed but git, make and Python 3.11 or later with venv.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=

export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-long attacks faults fuzz containers images container-demo check lint format types rooms
.PHONY: environment pins release docs clean

# A new environment holds no bytecode: what the demonstration imports is compiled by it and kept, the rest is not, which
# saves a minute.
demo: $(VENV)/.installed
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/fedminet demo $(ARGS)

# Two processes with a thread each: two threads each would wait for each other. Bytecode of the tree is kept, which saves a
# second of every program that a test starts. Where tests write: tests/support/memory_folder.py.
TESTING := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest
PYTEST  := OMP_NUM_THREADS=1 $(TESTING) -n 2 --dist loadfile --no-loadscope-reorder

# The checkers run beside the tests, since mypy alone takes a minute of one processor, and are printed behind them.
test: $(VENV)/.installed-dev
	@mkdir -p build
	@$(MAKE) --no-print-directory -j 2 -O -k check > build/check.log 2>&1 & checks=$$!; \
	$(PYTEST) -m 'not long and not containers' $(ARGS); tested=$$?; \
	wait $$checks; checked=$$?; cat build/check.log; exit $$((tested | checked))

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
# one core; `make test-long` has a share of it. ARGS: --inputs, --seed, --only a reader.
fuzz: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz $(ARGS)

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

# What comes from an index is held to the digests in pins/, and nothing comes that is not listed there. PyTorch's build for
# the CPU is taken where an index offers it (PIP_EXTRA_INDEX_URL), else the usual one, which needs CUDA's packages on Linux.
PINNED := $(BIN)/python docker/install_pins.py
UV     := UV_PYTHON=$(BIN)/python $(BIN)/uv --quiet --no-config pip

# A stamp newer than the files that decide what is installed: a second call starts in seconds.
$(VENV)/.installed: pyproject.toml constraints.txt docker/install_pins.py pins/run.txt pins/torch.txt pins/torch-cpu.txt pins/cuda.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fedminet needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	$(PINNED) pins/run.txt
	$(PINNED) pins/torch-cpu.txt 2> /dev/null || $(PINNED) pins/torch.txt
	if $(BIN)/python docker/pins.py needs-cuda; then $(PINNED) pins/cuda.txt; fi
	$(UV) install --offline --no-deps --no-build-isolation --editable .
	$(UV) check
	touch $@

# Some packages carry files that are no Python of this version, so compiling them may fail.
$(VENV)/.installed-dev: $(VENV)/.installed pins/dev.txt
	$(PINNED) pins/dev.txt
	$(UV) check
	-$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib
	touch $@

# Newer versions of what pyproject.toml wishes, the digests of all of it, and those of the images that ours are built on.
# VERSIONS=keep writes the digests alone. To be looked through before it is committed, and followed by `make test`.
pins: $(VENV)/.installed
	$(BIN)/python docker/pins.py renew $(VERSIONS)
	docker/base-digests.sh

# The wheel, its bill of materials and their checksums, signed with KEY (docs/operations/verify-a-release.md).
release: $(VENV)/.installed
	docker/release.sh $(or $(FOLDER),build/release) $(KEY)

# Pages that are written from the code.
docs: $(VENV)/.installed-dev
	$(BIN)/python -m fedminet.configuration_page > docs/configuration.md

clean:
	rm -rf $(VENV) build *.egg-info
