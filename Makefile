# Everything runs in an environment that uv makes from uv.lock, with an existing Python (3.11 to 3.13). pip fetches uv if
# it is missing; no Python is ever downloaded.
FIND_PYTHON = for p in python3 python3.13 python3.12 python3.11 python; do \
  $$p -c 'import sys; ok = (3, 11) <= sys.version_info[:2] <= (3, 13); print(sys.executable) if ok else sys.exit(1)' \
  2>/dev/null && break; done
PYTHON := $(shell $(FIND_PYTHON))
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
export UV_PYTHON_DOWNLOADS := never
export UV_PYTHON := $(PYTHON)
# without kept bytecode (as in many images) each start would compile torch and SAELens again
ifdef PYTHONDONTWRITEBYTECODE
export UV_COMPILE_BYTECODE := 1
endif
RUN := $(UV) run --no-sync
# reads a real model with all cores, so it runs by itself
TIMED := tests/test_smollm2.py
PARALLEL := --numprocesses auto --dist loadfile --no-loadscope-reorder

.PHONY: help setup quickstart tokens test test-fast test-browser test-interop lint docs check check-deps bench evidence build clean
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 20

define GET_UV
	@test -n "$(PYTHON)" || { echo "no Python 3.11, 3.12 or 3.13 found; install one and try again" >&2; exit 1; }
	@command -v $(UV) >/dev/null 2>&1 || $(PYTHON) -m pip install --quiet --disable-pip-version-check --target .uv uv \
	  || { $(PYTHON) -m venv .uv && .uv/bin/pip install --quiet uv; }
endef

.venv/.synced: uv.lock pyproject.toml
	$(GET_UV)
	$(UV) sync --locked --all-extras --quiet
	@touch $@

# without the dependencies of tests, documentation and trackers; installed ones stay
.venv/.synced-quickstart: uv.lock pyproject.toml
	$(GET_UV)
	$(UV) sync --locked --no-dev --extra quickstart --inexact --quiet
	@touch $@

setup: .venv/.synced ## make the environment

quickstart: .venv/.synced-quickstart ## find axes such as he / she in a small real model: a table and a page
	$(RUN) abstopk quickstart $(ARGS)

tokens: .venv/.synced-quickstart ## train and look at a signed SAE on the tokens of that model (ARGS="key=value ..." changes the config)
	$(RUN) abstopk tokens $(ARGS)

test: setup ## all tests but browser and interop tests
	$(RUN) pytest $(PARALLEL) -m "not browser and not interop" --ignore $(TIMED)
	$(RUN) pytest --noconftest $(TIMED)

test-fast: setup ## the tests that take seconds each
	$(RUN) pytest $(PARALLEL) -m "not slow and not interop"

test-browser: setup ## the explorer's pages in a Chromium (apt-get install chromium)
	$(RUN) pytest -m browser

# SAEBench needs numpy 1, which has no wheels for Python 3.13
.venv-interop/.synced: tests/interop/requirements.txt pyproject.toml
	$(UV) venv --quiet --clear --python '>=3.11,<3.13' .venv-interop
	$(UV) pip install --quiet --python .venv-interop/bin/python -r tests/interop/requirements.txt
	$(UV) pip install --quiet --python .venv-interop/bin/python --no-deps -r tests/interop/no-deps.txt -e .
	@touch $@

test-interop: setup .venv-interop/.synced ## other projects' tools on signed SAEs, in an environment of their own (Python 3.11 or 3.12)
	.venv-interop/bin/python -m pytest -m interop tests/interop

lint: setup ## ruff, ruff format, imports between rooms, pyright
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) lint-imports --no-cache
	$(RUN) pyright
	$(RUN) pyright -p pyright-strict.json

docs: setup ## the documentation site, in build/docs; a broken link or reference is an error
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict

check: lint docs test test-interop test-browser ## before every merge

# of the locked versions; a package that PyPI does not answer for fails too
check-deps: setup ## known vulnerabilities of the locked dependencies (pip-audit, needs the network)
	@mkdir -p build
	$(UV) export --locked --all-extras --all-groups --no-emit-project --no-hashes --quiet -o build/requirements.txt
	@$(RUN) pip-audit --strict --no-deps --disable-pip --progress-spinner off -r build/requirements.txt || \
	  { echo "check-deps: a vulnerability, or no answer from PyPI's advisories for what is named above (network?)" >&2; exit 1; }

.venv-peers/.synced: experiments/speed/peers.txt
	$(UV) venv --quiet --clear .venv-peers
	$(UV) pip install --quiet --python .venv-peers/bin/python -r experiments/speed/peers.txt
	@touch $@

# records are copied together, so that they are of one session
bench: setup .venv-peers/.synced ## time and memory on an idle machine (RECORD=1 makes them the records)
	$(RUN) python -m experiments.speed.step_time --peers .venv-peers/bin/python --out build/bench/step_time.json
	$(RUN) python -m experiments.speed.step_time --curves --out build/bench/curves.json
	$(RUN) python -m experiments.speed.step_time --inference --out build/bench/inference.json
	$(RUN) python -m experiments.speed.step_time --profile --out build/bench/profile.json
	$(RUN) python -m experiments.speed.end_to_end --out build/bench/end_to_end.json
	$(RUN) python -m experiments.speed.scaling --out build/bench/scaling.json
	$(RUN) python -m experiments.speed.beside build/bench
	$(if $(RECORD),cd build/bench && cp step_time.json curves.json inference.json profile.json end_to_end.json scaling.json ../../experiments/speed/results)
	$(if $(RECORD),$(RUN) python -m experiments.speed.chart)

# TEXT: folder of .txt and .json files; WORK: folder of the results; MODEL: folder of the language model; JOBS: SAEs trained at
# a time; LOCAL: one --local TASK=PATH for each public set in files (the record has all seven: public/sst2, ud_tense, ud_number,
# english_french, winogender, moods, facts); ARGS: options of experiments.study.study
WORK := runs/evidence
MODEL :=
JOBS :=
CORPUS = $(WORK)/corpus.jsonl.gz
STUDY = --text $(CORPUS) --work $(WORK) $(if $(MODEL),--model $(MODEL))
evidence: setup ## the study of docs/evidence.md: days, resumable (TEXT=folder, WORK, JOBS, LOCAL, ARGS)
	@test -n "$(TEXT)" || { echo "make evidence TEXT=folder: a folder of .txt and .json files to train on" >&2; exit 1; }
	@if test -f $(CORPUS); then \
	  echo "using $(CORPUS); after a change to $(TEXT), name another WORK"; \
	else mkdir -p $(WORK); $(RUN) python -m experiments.study.corpus "$(TEXT)" --out $(CORPUS); fi
	$(RUN) python -m experiments.study.study $(STUDY) $(strip $(LOCAL)) $(strip $(ARGS)) --dry-run
	$(RUN) python -m experiments.study.study $(STUDY) $(strip $(LOCAL)) $(if $(JOBS),--jobs $(JOBS)) $(strip $(ARGS))
	$(RUN) python -m experiments.study.report

build: setup ## wheel and source distribution, in dist/, checked as PyPI would
	$(UV) build
	$(UV) tool run --quiet twine check --strict dist/*

clean: ## remove the environments and built files
	rm -rf .venv .venv-peers .venv-interop .uv dist build .pytest_cache .ruff_cache .hypothesis
