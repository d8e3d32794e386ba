# The two commands of a newcomer: `make demo` and `make test`. Both set everything up first; a second call starts at once.
#   make setup CPU=1           the CPU build of torch (a laptop without a GPU)
#   make setup MMCV_OPS=1      also compile the ops of mmcv (GPU users, parity tests): needs g++ and Python.h
#   make setup PYTHON=python3.12
#   make setup TORCH="torch==2.13.0 --index-url <the index of your CUDA version>"
PYTHON ?=
ifneq ($(filter-out 0,$(CPU)),)
TORCH ?= torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
else
TORCH ?= torch==2.13.0
endif
MMCV ?= onedl-mmcv==2.3.6
OPENCV ?= opencv-python-headless==4.11.0.86
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
DEMO ?= work_dirs/demo
SEED ?= 0
# Processes that share the tests; a file stays in one, since its tests share what they make.
TEST_JOBS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile

# What mmcv is installed with, 0 or 1; without MMCV_OPS= it stays as it is. Environments from before the choice
# have an empty mark, and the ops.
OPS_NOW := $(if $(wildcard $(VENV)/.mmcv),$(or $(shell cat $(VENV)/.mmcv),1))
MMCV_OPS ?= $(or $(OPS_NOW),0)
ifeq ($(filter 0 1,$(MMCV_OPS)),)
$(error MMCV_OPS=$(MMCV_OPS): give 0 or 1)
endif

.PHONY: help setup demo test test-fast lint format check-venv check-compiler clean
help:
	@echo 'make demo    set up if needed, then render data, train, test and draw the tiny Fast-BEV'
	@echo 'make test    set up if needed, then every test;  make test-fast  leaves the slow ones out (two minutes)'
	@echo 'make lint    check code style and types;  make format  fixes the style'
	@echo 'make setup   only the set-up;   make clean   removes $(VENV)'
	@echo 'options of each: CPU=1 (CPU build of torch), MMCV_OPS=1 (compile the ops of mmcv), PYTHON=, TORCH=, VENV=, TEST_JOBS= (processes of the tests, 2)'

setup: check-venv $(VENV)/.ready

# An environment is set up with one Python and one torch; another one needs another environment.
check-venv:
ifneq ($(PYTHON),)
	@[ ! -f $(VENV)/.torch ] || [ "$$($(PYTHON) -c 'import sys; print(sys.version_info[:2])')" = "$$($(BIN)/python -c 'import sys; print(sys.version_info[:2])')" ] || { echo "error: $(VENV) was set up with another Python ($$($(BIN)/python --version)) than $(PYTHON): make clean first, or name another folder with VENV="; exit 2; }
endif
ifneq ($(or $(filter-out 0,$(CPU)),$(filter-out file default undefined,$(origin TORCH))),)
	@[ ! -f $(VENV)/.torch ] || [ "$$(cat $(VENV)/.torch)" = "$(TORCH)" ] || { echo "error: $(VENV) was set up with another torch ($$(cat $(VENV)/.torch)) than $(TORCH): make clean first"; exit 2; }
endif

# Each step leaves a mark, so that an interrupted set-up continues where it stopped.
$(VENV)/.torch:
	@echo '== 1/4 Python and torch'
	@python=$$(sh requirements/choose_python.sh "$(firstword $(TORCH))" $(PYTHON)) && "$$python" -m venv $(VENV)
	$(PIP) install -q $(TORCH)
	@echo "$(TORCH)" > $@

# pip keeps the wheels that it builds and hands them out again, whichever way they were built: neither way of building
# may read or fill that cache, or a user who asks for ops would get the wheel without them.
ifeq ($(MMCV_OPS),1)
$(VENV)/.mmcv: $(VENV)/.torch requirements/build.txt $(if $(filter-out 1,$(OPS_NOW)),ask-mmcv)
	@$(MAKE) --no-print-directory check-compiler
	@echo '== 2/4 mmcv with its ops (9 to 40 minutes on 2 cores)'
	$(PIP) install -q -r requirements/build.txt
	MMCV_WITH_OPS=1 $(PIP) install -q --no-cache-dir --force-reinstall --no-deps --no-build-isolation --no-binary onedl-mmcv $(MMCV)
	@echo 1 > $@
else
$(VENV)/.mmcv: $(VENV)/.torch requirements/build.txt $(if $(filter-out 0,$(OPS_NOW)),ask-mmcv)
	@echo '== 2/4 mmcv without compiled ops'
	$(PIP) install -q -r requirements/build.txt
	@# There is no torch in the isolated build environment, so mmcv's set-up compiles nothing.
	MMCV_WITH_OPS=0 $(PIP) install -q --no-cache-dir --force-reinstall --no-deps $(MMCV)
	@echo 0 > $@
endif

# Not a file: makes $(VENV)/.mmcv again when mmcv is asked for in the other form.
.PHONY: ask-mmcv
ask-mmcv:

$(VENV)/.packages: $(VENV)/.mmcv requirements/run.txt requirements/dev.txt
	@echo '== 3/4 mmengine, mmdet, mmdet3d, nuscenes-devkit and the rest'
	$(PIP) install -q --no-build-isolation -r requirements/run.txt -r requirements/dev.txt
	@# Two OpenCV packages write the same files; the one without libGL must be the last.
	$(PIP) install -q --force-reinstall --no-deps $(OPENCV)
	@touch $@

$(VENV)/.ready: $(VENV)/.packages setup.py pyproject.toml
	@echo '== 4/4 perception3d itself'
	$(PIP) install -q --no-build-isolation --no-deps -e .
	$(BIN)/python tools/check_env.py --quiet
	@touch $@

check-compiler:
	@$(BIN)/python -c 'import os, sys, sysconfig; sys.exit(not os.path.isfile(os.path.join(sysconfig.get_path("include"), "Python.h")))' || { echo "error: Python.h is missing, which the ops of mmcv need: apt-get install python3-dev"; exit 2; }
	@command -v g++ >/dev/null || { echo "error: g++ is missing, which the ops of mmcv need: apt-get install g++"; exit 2; }

demo: setup
	$(BIN)/python tools/demo.py --out $(DEMO) --seed $(SEED)

test: setup
	$(PYTEST)

test-fast: setup
	$(PYTEST) -m 'not slow and not gpu'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV)
