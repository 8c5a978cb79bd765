# verify  check the paper's claims, print one table, redraw figures/   PATHS=n DEVICE=cuda ONLY="ID ..."
# test    all tests and doctests that need no GPU
# lint    ruff (rules and format) everywhere, pyright on sdewm
# bench   speed table                                                  ONLY="ROW ..."
# bench-learning  train the runs of the learning curves and draw them; hours   ONLY="RUN ..."
# clean   delete everything that make built
# The first target to run builds .venv; PYTHON=/path/to/python3.12 chooses the interpreter.

PYTHON ?=
PATHS ?=
DEVICE ?=
ONLY ?=
python := .venv/bin/python
# -n auto starts one worker per core, so each worker computes with one thread (tests/conftest.py).
pytest_options := -n auto --maxprocesses 8

# A misspelt variable would otherwise be ignored without a word.
known := PYTHON PATHS DEVICE ONLY
given := $(foreach word,$(MAKEOVERRIDES),$(if $(findstring =,$(word)),$(firstword $(subst =, ,$(word)))))
unknown := $(filter-out $(known),$(given))
ifneq ($(unknown),)
$(error unknown variable $(firstword $(unknown)); known are: $(known))
endif

.PHONY: verify test lint bench bench-learning clean venv
.NOTPARALLEL:

verify: venv
	$(python) -m paper_checks$(if $(PATHS), --paths $(PATHS))$(if $(DEVICE), --device $(DEVICE))$(if $(ONLY), --only $(ONLY))

test: venv
	$(python) -m pytest $(pytest_options)

lint: venv
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m pyright

bench: venv
	$(python) analysis/table_bench.py$(if $(ONLY), --only $(ONLY))

bench-learning: venv
	$(python) analysis/sweep_learning.py$(if $(ONLY), --only $(ONLY))

venv:
	@sh .ci/build_venv "$(PYTHON)"

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
