# Every target builds .venv first when it is missing. PYTHON chooses the interpreter (3.10 to 3.12).
PYTHON ?= python3
BIN := .venv/bin
PYTEST := pytest -n 2 --dist loadfile

# What test-stack runs on: openmmlab (as .venv), onedl (the maintained forks), oldest (every lower bound of pyproject).
STACKS := $(sort $(basename $(notdir $(wildcard requirements/*.lock))))
STACK ?= openmmlab
$(if $(filter $(STACK),$(STACKS)),,$(error STACK=$(STACK) is unknown; choose one of: $(STACKS)))

.PHONY: demo test test-stack test-browser test-heavy fuzz mutants benchmark-peers results lint clean
.DEFAULT_GOAL := test

define environment
$(PYTHON) -m venv $(@D)
$(@D)/bin/pip install --quiet --disable-pip-version-check -c $(filter %.lock,$^) \
	-e '.[$(if $(findstring onedl,$@),onedl,openmmlab),dev]'
touch $@
endef

.venv/ready: pyproject.toml requirements/openmmlab.lock
	$(environment)

.venv-%/ready: pyproject.toml requirements/%.lock
	$(environment)

demo: .venv/ready  ## digits: teacher, student alone, distilled student, one table, one picture
	$(BIN)/python tools/demo.py

test: .venv/ready  ## lint, types, import rules and every test
	$(MAKE) lint
	OMP_NUM_THREADS=1 $(BIN)/$(PYTEST)

test-stack: .venv-$(STACK)/ready  ## every test again in .venv-STACK: make test-stack STACK=onedl
	OMP_NUM_THREADS=1 .venv-$(STACK)/bin/$(PYTEST)

test-browser: .venv/ready  ## the page of masks in a headless Chromium, which the system must have
	$(BIN)/pytest -m browser tests/browser

test-heavy: .venv/ready  ## what takes minutes: torch.compile, and all of MMEngine's options together
	OMP_NUM_THREADS=1 $(BIN)/pytest -m heavy tests

fuzz: .venv/ready  ## 5,100 hostile configs, annotations, checkpoints, archives and images, at random; 4 minutes
	FUZZ=50 OMP_NUM_THREADS=1 timeout 1800 $(BIN)/pytest tests/fuzz

benchmark-peers: .venv/ready  ## MMRazor 1.0.0 beside this toolkit, on Faster R-CNN R50 -> R18; minutes on two cores
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[peers]'
	$(BIN)/python tools/benchmark_peers.py mmdet::faster_rcnn/faster-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco.py \
		mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py --shape 240 320 --out work_dirs/peers.json

results: .venv/ready  ## the share of the gap each method closes, two data sets, two budgets, three seeds: days; goes on where it stopped
	$(BIN)/python tools/results.py configs/results/bccd.py --jobs 2
	$(BIN)/python tools/results.py configs/results/cards.py --jobs 2

mutants: .venv/ready  ## small faults in losses, masks, quantiser and compat, each against the tests; an hour or two
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[mutants]'
	HYPOTHESIS_PROFILE=mutants OMP_NUM_THREADS=1 $(BIN)/mutmut run --max-children 2

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv $(STACKS:%=.venv-%) work_dirs data/digits
