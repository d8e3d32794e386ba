# The two commands of a newcomer: `make demo` and `make test`. Both set everything up first; a second call starts at once.
PYTHON ?= python3.11
# CUDA users: make demo TORCH="torch==2.13.0 --index-url <the index of your CUDA version>"
TORCH ?= torch==2.13.0
MMCV ?= onedl-mmcv==2.3.6
OPENCV ?= opencv-python-headless==4.11.0.86
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
DEMO ?= work_dirs/demo
SEED ?= 0

.PHONY: help setup demo test lint format check-tools clean
help:
	@echo 'make demo    set up if needed, then render data, train, test and draw the tiny Fast-BEV'
	@echo 'make test    set up if needed, then every test'
	@echo 'make lint    check code style;  make format  mends it'
	@echo 'make setup   only the set-up;   make clean   removes $(VENV)'

setup: $(VENV)/.ready
ifneq ($(origin TORCH),file)
	@[ "$$(cat $(VENV)/.torch)" = "$(TORCH)" ] || { echo "error: $(VENV) was set up with another torch than $(TORCH): make clean first"; exit 2; }
endif

check-tools:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is missing: apt-get install python3.11 python3.11-venv python3.11-dev, or name another with PYTHON="; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: the venv module is missing: apt-get install python3.11-venv"; exit 2; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.isfile(os.path.join(sysconfig.get_path("include"), "Python.h")))' || { echo "error: Python.h is missing: apt-get install python3.11-dev"; exit 2; }
	@command -v g++ >/dev/null || { echo "error: g++ is missing: apt-get install g++"; exit 2; }

# Each step leaves a mark, so that an interrupted set-up goes on where it stopped.
$(VENV)/.torch:
	@$(MAKE) --no-print-directory check-tools
	@echo '== 1/4 torch and build tools'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q $(TORCH) -r requirements/build.txt
	@echo "$(TORCH)" > $@

$(VENV)/.mmcv: $(VENV)/.torch requirements/build.txt
	@echo '== 2/4 mmcv with its ops (about 9 minutes on 2 cores the first time, then pip keeps the wheel)'
	MMCV_WITH_OPS=1 $(PIP) install -q --no-build-isolation $(MMCV)
	@touch $@

$(VENV)/.hosts: $(VENV)/.mmcv requirements/run.txt requirements/dev.txt
	@echo '== 3/4 mmengine, mmdet, mmdet3d, nuscenes-devkit and the rest'
	$(PIP) install -q --no-build-isolation -r requirements/run.txt -r requirements/dev.txt
	@# Two OpenCV packages write the same files; the one without libGL must be the last.
	$(PIP) install -q --force-reinstall --no-deps $(OPENCV)
	@touch $@

$(VENV)/.ready: $(VENV)/.hosts setup.py
	@echo '== 4/4 perception3d itself'
	$(PIP) install -q --no-build-isolation --no-deps -e .
	$(BIN)/python tools/check_env.py --quiet
	@touch $@

demo: setup
	$(BIN)/python tools/demo.py --out $(DEMO) --seed $(SEED)

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV)
