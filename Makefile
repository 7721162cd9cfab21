# make demo · make test · make lint · make bench        (only Python 3.11 or newer is needed)
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
PARALLEL := -n auto --maxprocesses 4 --dist loadfile

# Small networks on several threads are slower than on one, many times so on a busy machine.
test test-all docs: export OMP_NUM_THREADS = 1

.PHONY: demo test test-all lint types docs bench clean

demo: .venv/installed  ## train a real network, watched live: make demo ARGS="--scenario saddle"
	$(BIN)/eigenscope demo $(ARGS)

test: .venv/tested  ## what CI runs
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL) $(ARGS)

test-all: .venv/tested  ## with the rare longer tests
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

lint: .venv/linted  ## ruff, mypy strict, and tsc over the dashboard's JavaScript
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd lint && npm ci --silent --no-audit --no-fund && npx tsc -p .

docs: .venv/tested  ## the reference pages, from the docstrings
	$(BIN)/python docs/build.py

bench: .venv/benched  ## the figures in the docs, measured again
	$(BIN)/python benchmarks/curvature.py --json benchmarks/results/curvature.json
	$(BIN)/python benchmarks/monitor.py --json benchmarks/results/monitor.json
	$(BIN)/python benchmarks/run_file.py --json benchmarks/results/run_file.json
	$(BIN)/python benchmarks/flow.py --json benchmarks/results/flow.json
	$(BIN)/python benchmarks/scan.py --json benchmarks/results/scan.json
	$(BIN)/python benchmarks/compress.py --json benchmarks/results/compress.json
	$(BIN)/python benchmarks/lowrank.py --ranks 8,64 --json benchmarks/results/lowrank.json
	$(BIN)/python benchmarks/lora.py --json benchmarks/results/lora.json
	$(BIN)/python benchmarks/actions.py --json benchmarks/results/actions.json

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "eigenscope needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[demo]'
	@touch $@

.venv/tested: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test]'
	@touch $@ .venv/installed

.venv/linted: .venv/tested
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[lint]'
	@touch $@

.venv/benched: .venv/tested
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]'
	@touch $@

clean:
	rm -rf .venv build dist
