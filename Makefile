# Every target builds .venv first when it is missing. PYTHON chooses the interpreter (3.10 to 3.12).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-browser lint slow clean
.DEFAULT_GOAL := test

.venv/ready: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[openmmlab,dev]'
	touch $@

demo: .venv/ready  ## digits: teacher, student alone, distilled student, one table, one picture
	$(BIN)/python tools/demo.py

test: .venv/ready  ## lint, types, import rules and every test
	$(MAKE) lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

test-browser: .venv/ready  ## the page of masks in a headless Chromium, which the system must have
	$(BIN)/pytest -m browser tests/browser

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv work_dirs data/digits
