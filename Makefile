# Every target does its own set-up in .venv. Needs Python 3.11, pip and a C compiler.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# A process that a test starts would compile all of it again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check bench sim chaos format clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

demo: $(READY)           ## the whole path on a sandbox cloud: about a minute
	$(BIN)/tidegate demo

test: $(READY)           ## every test
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder

check: $(READY)          ## format, lint, types, imports
	$(BIN)/ruff format --check src tests bench chaos sim
	$(BIN)/ruff check src tests bench chaos sim
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

PARTS ?=
bench: $(READY)          ## measured beside a control: make bench PARTS="ending lateness"
	$(BIN)/python -m bench.run $(PARTS)

SEED ?= 1
LIFECYCLES ?= 20000
MUTANTS ?= all
RESUME ?=
sim: $(READY)            ## every fault from one seed, every seeded bug: make sim SEED=7 LIFECYCLES=1000000
	$(BIN)/python -m sim --seed $(SEED) --lifecycles $(LIFECYCLES) --mutants $(MUTANTS) --points --ledger sim/out/$(SEED).jsonl $(if $(RESUME),--resume)

chaos: $(READY)          ## kills at every named point, on real processes: hours
	$(BIN)/python -m chaos.run
	$(BIN)/python -m chaos.run --database postgresql --sample 8
	$(BIN)/python -m chaos.run --database postgresql --servers 2 --sample 4

format: $(READY)
	$(BIN)/ruff format src tests bench chaos sim
	$(BIN)/ruff check --fix src tests bench chaos sim

clean:
	rm -rf .venv build dist bench/out
