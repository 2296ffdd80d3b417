# The commands of this project. `make` alone lists them.

# Passed on to the command behind a target: make serve ARGS='--config silo.toml', make test ARGS='-k replay'.
ARGS =
# The first of these that is 3.11 or 3.12 makes the environment.
PYTHON ?= python3 python3.12 python3.11

SHELL := bash
VENV := .venv
LOCK_VENV := .lock-venv
UV_VERSION := 0.13.9

# Only wheels, and only those the lock names byte for byte: nothing is compiled, and no setup script runs.
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(VENV)/bin/python -m pip
INSTALL := $(PIP) install --require-hashes --only-binary :all: --progress-bar off

# What a busy machine does to real peers gets a second chance, and is shown as such: a deadline, or a port that is taken.
AGAIN := --reruns 1 --only-rerun 'not within|nothing reached|timed out|TimeoutExpired|in use'

# Whatever goes into what is built.
SOURCES := $(shell find msilo_lite packaging -type f ! -name '*.pyc')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SECONDS_EACH := $(or $(SECONDS),60)
.PHONY: help serve demo test check format fuzz crash soak bench docs binary compiled addon container-test peers lock clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
	@echo "Options for the command behind a target: make serve ARGS='--help'"

serve: $(VENV)/.installed  ## run the store (the first time this makes .venv)
	@exec $(VENV)/bin/msilo-lite serve $(ARGS)

demo: $(VENV)/.installed  ## show a message's whole way, on this machine alone
	@exec $(VENV)/bin/msilo-lite demo $(ARGS)

test: peers check  ## install what the tests need, check, run every test
	@echo "test: pytest" >&2
	@$(VENV)/bin/python -m pytest -n 3 --dist loadfile $(AGAIN) $(ARGS)

check: $(VENV)/.dev  ## formatting, style, types and locks; changes nothing
	@echo "check: formatting, style, types, locks" >&2
	@$(VENV)/bin/ruff format --check --quiet . || { echo "check: not formatted, run: make format" >&2; exit 1; }
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy --no-error-summary
	@problems=$$($(PIP) check) || { echo "$$problems" >&2; echo "check: locks out of date, run: make lock" >&2; exit 1; }

format: $(VENV)/.dev  ## format the code and mend what can be mended
	@echo "format: ruff" >&2
	@$(VENV)/bin/ruff check --quiet --fix-only .
	@$(VENV)/bin/ruff format --quiet .

fuzz: $(VENV)/.dev  ## fuzz every parser, the edge and the configuration, SECONDS=60 for each
	@for target in request response address presence config edge; do \
	    $(VENV)/bin/python -m tests.fuzz $$target --seconds $(SECONDS_EACH) 2>/dev/null || exit 1; \
	done

crash: peers $(VENV)/.dev  ## kill it at random in ROUNDS=100 rounds under load, and lock its database for 30 seconds
	@CRASH_ROUNDS=$(or $(ROUNDS),100) BAD_DAY_SECONDS=30 $(VENV)/bin/python -m pytest -q $(ARGS) \
	    tests/integration/test_rounds.py tests/integration/test_matrix.py tests/integration/test_bad_days.py

soak: $(VENV)/.dev  ## load, churn and faults for minutes: make soak ARGS='--minutes 10'
	@exec $(VENV)/bin/python -m tests.integration.soak $(ARGS)

bench: peers build/compiled/.built  ## measure, beside a real Kamailio
	@exec $(VENV)/bin/python -m bench $(ARGS)

docs: $(VENV)/.dev  ## make what is made from something else: pages of docs/, files of examples/
	@$(VENV)/bin/python -m docs.parity
	@$(VENV)/bin/python -m docs.examples
	@$(VENV)/bin/python -m docs.manpage
	@$(VENV)/bin/python -m docs.pictures
	@$(VENV)/bin/python -m tests.sip.torture > docs/rfc4475.md

binary: dist/msilo-lite  ## the single executable dist/msilo-lite, with Python and the SIP stack inside

compiled: build/compiled/.built  ## the package with its busiest modules as machine code, and a wheel of it: faster by a quarter

addon: $(VENV)/.dev  ## the Home Assistant add-on, complete, in dist/home-assistant
	@rm -rf dist/home-assistant && mkdir -p dist/home-assistant
	@cp -R examples/home-assistant/msilo-lite dist/home-assistant/
	@cp requirements/run.lock dist/home-assistant/msilo-lite/
	@$(PIP) wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir dist/home-assistant/msilo-lite .

container-test: $(VENV)/.dev  ## every step of the container files, in a Debian of debootstrap's (root, two minutes)
	@bash tests/container/install-debian.sh
	@MSILO_CONTAINER_TESTS=1 $(VENV)/bin/python -m pytest tests/container $(ARGS)

lock: $(LOCK_VENV)/bin/uv  ## make the locks fit pyproject.toml (UPGRADE=1: newest versions)
	@echo "lock: requirements/run.lock, requirements/dev.lock" >&2
	@$(call compile,run.lock)
	@$(call compile,dev.lock,--extra dev --constraint requirements/run.lock)

clean:  ## remove the environment and everything else that can be made again
	@echo "clean: environment, caches, builds" >&2
	@rm -rf $(VENV) $(LOCK_VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

peers:
	@bash tests/install-peers.sh
	@bash tests/install-asterisk.sh

# A new lock starts from an empty environment, so that nothing stays that the lock no longer names.
$(VENV)/.locked: requirements/run.lock
	@$(call new-venv,$(VENV))
	@$(call install,$<)
	@touch $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	@$(PIP) install --quiet --no-deps --no-index --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.installed
	@$(call install,$<)
	@touch $@

# What it needs besides the environment: binutils, and a Python that has its own library (Debian: libpython3.11).
# Machine code goes in where it can be made.
dist/msilo-lite: $(VENV)/.dev requirements/run.lock $(SOURCES)
	@machine_code=build/compiled; $(MAKE) --no-print-directory compiled || { machine_code=; \
	    echo "binary: goes on without machine code, and serves three quarters as fast" >&2; }; \
	echo "binary: PyInstaller, half a minute" >&2; \
	MACHINE_CODE=$$machine_code $(VENV)/bin/pyinstaller --noconfirm --log-level ERROR --distpath dist --workpath build packaging/msilo-lite.spec

# What it needs besides the environment: a C compiler, and the headers of this Python (Debian: gcc, python3-dev).
build/compiled/.built: $(VENV)/.dev $(SOURCES)
	@command -v $${CC:-gcc} >/dev/null && $(VENV)/bin/python -c 'import os, sys, sysconfig; \
	    sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || { \
	    echo "compiled: no C compiler, or no headers of Python: apt-get install gcc python3-dev" >&2; exit 1; \
	}
	@echo "compiled: mypyc and gcc, two minutes" >&2
	@rm -rf build/compiled build/c dist/msilo_lite-*.whl
	@mkdir -p build && $(VENV)/bin/python -W ignore packaging/compiled.py >build/compiled.log 2>&1 \
	    || { tail -n 30 build/compiled.log >&2; exit 1; }
	@touch $@

$(LOCK_VENV)/bin/uv:
	@$(call new-venv,$(LOCK_VENV))
	@$(LOCK_VENV)/bin/python -m pip install --quiet uv==$(UV_VERSION)

# $(call new-venv,DIRECTORY): what a fresh machine lacks gets a sentence instead of a traceback.
define new-venv
for python in $(PYTHON) none; do \
    $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && break; \
done; \
if [ $$python = none ]; then \
    echo "Python 3.11 or 3.12 is needed, and none of these is one: $(PYTHON)" >&2; \
    echo "Debian 12: apt-get install python3 python3-venv; or name yours: make PYTHON=/path/to/python3.12 ..." >&2; \
    exit 1; \
fi; \
$$python -c 'import ensurepip' 2>/dev/null || { \
    echo "$$python makes no virtual environments here: apt-get install python3-venv" >&2; exit 1; \
}; \
echo "Making $(1) with $$($$python --version)" >&2; \
$$python -m venv --clear $(1)
endef

# $(call install,LOCK): on a terminal one line counts the packages; a log stays quiet.
define install
set -o pipefail; echo "Installing from $(1)" >&2; \
$(INSTALL) -r $(1) | while read -r word name _; do \
    [ -t 2 ] || continue; \
    case $$word in \
        Collecting) n=$$((n + 1)); printf '\r  %d %s\033[K' $$n "$$name" >&2 ;; \
        Installing) printf '\r  unpacking %d packages\033[K' $$n >&2 ;; \
        Successfully) printf '\r\033[K' >&2 ;; \
    esac; \
done || { \
    echo "Not installed. PJSIP comes as a wheel for Linux on x86_64 (glibc) and for macOS; others: see README.md" >&2; \
    exit 1; \
}
endef

# $(call compile,LOCK,OPTIONS): the build backend is locked too, as the project is built without isolation.
define compile
set -o pipefail; $(LOCK_VENV)/bin/python -c \
    'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
| $(LOCK_VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --only-binary :all: --generate-hashes \
    --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
    $(if $(UPGRADE),--upgrade) $(2) --output-file requirements/$(1) pyproject.toml - >/dev/null
endef
