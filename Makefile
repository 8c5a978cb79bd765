# verify  check the paper's claims, print one table, redraw figures/   PATHS=n FULL=1 DEVICE=cuda ONLY="ID ..."
# report  write figures/report.html from the committed results
# test    all tests and doctests that need no GPU            ONLY=tests/train or ONLY="replay and not gpu"
# lint    ruff (rules and format) everywhere, pyright on sdewm
# bench   speed table                                                  ONLY="ROW ..."
# bench-learning  train the runs of the learning curves and draw them; hours   ONLY="RUN ..."
# mutants change the numerics in one place at a time and see that a test fails; about 25 minutes   ONLY="NAME or path ..."
# clean   delete everything that make built
# The first target to run builds .venv; PYTHON=/path/to/python3.12 chooses the interpreter.

PYTHON ?=
PATHS ?=
FULL ?=
DEVICE ?=
ONLY ?=
python := .venv/bin/python
# -n auto starts one worker per core, so each worker computes with one thread (tests/conftest.py).
# Each begins with a part of the suite in its order, so that neighbours share what they prepare.
pytest_options := -n auto --maxprocesses 8 --dist worksteal

# A misspelt variable would otherwise be ignored without a word.
known := PYTHON PATHS FULL DEVICE ONLY
given := $(foreach word,$(MAKEOVERRIDES),$(if $(findstring =,$(word)),$(firstword $(subst =, ,$(word)))))
unknown := $(filter-out $(known),$(given))
ifneq ($(unknown),)
$(error unknown variable $(firstword $(unknown)); known are: $(known))
endif

# Of the tests, ONLY names paths (a file may go on with ::name), or else is an expression of pytest -k.
absent := $(strip $(foreach word,$(ONLY),$(if $(wildcard $(firstword $(subst ::, ,$(word)))),,$(word))))
ifneq ($(and $(filter test,$(MAKECMDGOALS)),$(findstring /,$(absent))),)
$(error ONLY=$(ONLY): there is no path $(absent))
endif
chosen := $(if $(ONLY),$(if $(absent),-k '$(ONLY)',$(ONLY)))
none_chosen = { code=$$?; [ $$code != 5 ] || echo "ONLY=$(ONLY) chooses no test" >&2; exit $$code; }

.PHONY: verify report test lint bench bench-learning mutants clean venv
.NOTPARALLEL:

verify: venv
	$(python) -m paper_checks$(if $(PATHS), --paths $(PATHS))$(if $(FULL), --full)$(if $(DEVICE), --device $(DEVICE))$(if $(ONLY), --only $(ONLY))

report: venv
	$(python) -m paper_checks.page

test: venv
	$(python) -m pytest $(pytest_options)$(if $(chosen), $(chosen) || $(none_chosen))

lint: venv
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m pyright

bench: venv
	$(python) analysis/table_bench.py$(if $(ONLY), --only $(ONLY))

bench-learning: venv
	$(python) analysis/sweep_learning.py$(if $(ONLY), --only $(ONLY))

mutants: venv
	$(python) tests/run_mutants.py$(if $(ONLY), --only $(ONLY))

venv:
	@sh .ci/build_venv "$(PYTHON)"

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.DEFAULT:
	@echo "there is no target $@; known are: $$(sed -n 's/^.PHONY: \(.*\) venv$$/\1/p' Makefile)" >&2; exit 2
