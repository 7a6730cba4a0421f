# Everything happens in ./.venv, with the packages of the lock files, every file of them checked against its hash.
# Another Python: make demo PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# Packages that come as source (a few small ones) are built with the locked setuptools, not with the newest one.
INSTALL := $(PIP) install --quiet --no-build-isolation --use-pep517
LOCK := $(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
	--constraint constraints.txt --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
SETTINGS := pyproject.toml setup.cfg
# For the tests that compile firmware and projects and run them on an emulated board, have words spoken, and corrupt images (OpenCV).
APT_PACKAGES := g++ cmake cppcheck espeak-ng flite gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm libgl1

# What a model of the zoo has beside its recipe: all of it from one run. What `tinyrobust export` makes of these files is not
# kept; generated.sha256 has its hashes, so that a test can tell whether it still makes the same.
ARTEFACTS := README.md model.tflite network.npz frontend.json footprint.json parity.json robustness.json robustness-waveform.json \
	detection.json
GENERATED := model_data.cc model_data.h model_frontend.h model_frontend_vectors.h

export PIP_ROOT_USER_ACTION = ignore
export TF_CPP_MIN_LOG_LEVEL ?= 3

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow fuzz zoo lint apt lock clean
.DELETE_ON_ERROR:

help: ## Say what the targets are
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | while IFS='|' read -r name text; do printf '%-12s%s\n' "$$name" "$$text"; done

demo: .venv/.run ## Train, export, attack and size the demo network (digits-stq); name the report to open
	$(BIN)/tinyrobust run digits-stq

# Test files run in the order of their names: in that of their number of tests, the long ones are last and alone.
test: apt lint ## Check format, style, types and import rules, and run the tests
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: .venv/.dev ## Run the tests that train for minutes
	$(BIN)/pytest -m slow

# New inputs lie in build/fuzz, what ends it in build/fuzz-crashes: mended, it belongs into tests/hostile/corpus.
SECONDS ?= 3600
fuzz: .venv/.dev ## Fuzz the door to .tflite files, guided by coverage, for SECONDS=3600
	@$(PIP) install --quiet --require-hashes -r requirements-fuzz.lock
	@mkdir -p build/fuzz build/fuzz-crashes
	$(BIN)/python tests/hostile/fuzz.py -max_total_time=$(SECONDS) -timeout=5 -rss_limit_mb=2048 -max_len=16384 \
		-artifact_prefix=build/fuzz-crashes/ build/fuzz tests/hostile/corpus

zoo: .venv/.run ## Train a model of models/ and put what it leaves beside its recipe; MODEL=kws-dscnn
	run=$$($(BIN)/tinyrobust run $(MODEL) --json | $(BIN)/python -c 'import json, sys; print(json.load(sys.stdin)["run"])') && \
	for file in $(ARTEFACTS); do test ! -e $$run/$$file || cp $$run/$$file models/$(MODEL)/; done && \
	(cd $$run && ls $(GENERATED) 2>/dev/null | xargs sha256sum) > models/$(MODEL)/generated.sha256

lint: .venv/.dev ## Check format, style, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: .venv/.dev ## Write the lock files anew; UPGRADE=--upgrade takes newer versions
	$(LOCK) $(UPGRADE) --extra dev pyproject.toml --output-file requirements-dev.lock
	$(LOCK) $(UPGRADE) --constraint requirements-dev.lock pyproject.toml --output-file requirements.lock
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(LOCK) --constraint requirements-dev.lock - --output-file requirements-build.lock
	@echo "atheris==3.0.0" | $(LOCK) - --output-file requirements-fuzz.lock

clean: ## Remove ./.venv and everything that tools wrote; runs/ stays
	rm -rf .venv build dist *.egg-info .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find benchmarks tests tinyrobust -name __pycache__ -type d -prune -exec rm -rf {} +

# Installs the compilers and the emulator where that needs no question; the tests that want them skip otherwise.
apt:
	@missing=; for package in $(APT_PACKAGES); do \
		dpkg-query --show --showformat '$${db:Status-Status}' $$package 2>/dev/null | grep -qx installed || missing="$$missing $$package"; \
	done; \
	if [ -z "$$missing" ] || ! command -v apt-get >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then as_root=; elif sudo -n true 2>/dev/null; then as_root="sudo -n"; else \
		echo "Some tests will be skipped. For them: sudo apt install$$missing"; exit 0; fi; \
	echo "Installing$$missing"; \
	{ $$as_root apt-get -qq update && $$as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get -qq install --yes --no-install-recommends $$missing; } </dev/null >/dev/null \
		|| echo "apt could not install$$missing: some tests will be skipped."

.venv/pyvenv.cfg:
	@command -v $(PYTHON) >/dev/null || { echo "Python is missing. On Debian: sudo apt install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "Expected Python 3.11, 3.12 or 3.13. Received: $$($(PYTHON) --version). Name another: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "Python's venv module is missing. On Debian: sudo apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv

# The stamp files: packages are installed when a lock changed, and only then. requirements-dev.lock contains requirements.lock.
.venv/.run: .venv/pyvenv.cfg requirements.lock requirements-build.lock $(SETTINGS)
	$(call install,requirements.lock)
	@touch $@

.venv/.dev: .venv/pyvenv.cfg requirements-dev.lock requirements-build.lock $(SETTINGS)
	$(call install,requirements-dev.lock)
	@touch .venv/.run $@

define install
	@echo "Installing the packages of $(1) into ./.venv (the first time: minutes)"
	@$(PIP) install --quiet --require-hashes -r requirements-build.lock
	@$(INSTALL) --require-hashes -r $(1)
	@$(INSTALL) --no-deps --editable .
endef
