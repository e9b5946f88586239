# Two commands: `make journey` trains one model from random weights; `make test` proves that it is right.
# Every target sets up .venv first, once. Without make: see "Without make" in README.md.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; exit; }; done; echo python3)
RUN := .venv/bin/python
SEED ?= 0
SCALE ?= cpu
export TEXT QA TASK PREFS FROM SEED SCALE TOOLS TRANSCRIPT TURNS TOKENS TEMPERATURE IN CHAPTER OUT JOBS
export PYTHONUTF8 := 1

.PHONY: help setup journey chat grade check test lab notebooks checkpoints bench clean

help:
	@echo 'make journey      one model from random weights to answers (SEED=0 SCALE=cpu|gpu FROM=base|tuned|FOLDER)'
	@echo '                  on your own text: TEXT=FILE, questions: QA=FILE.jsonl, preferences: PREFS=FILE.jsonl'
	@echo '                  chains learned from outcomes alone, on your own task: FROM=FOLDER TASK=FILE.jsonl'
	@echo 'make chat         talk to a model: the one that a journey kept, or FROM=base|tuned|caller|FOLDER (TOOLS=off TRANSCRIPT=FILE.jsonl'
	@echo '                  TEMPERATURE=0.7 TURNS=N TOKENS=N); in a pipe: a question a line, an answer a line'
	@echo 'make lab          open the course in JupyterLab, at its first page'
	@echo 'make grade        mark a class: IN=FOLDER CHAPTER=N OUT=FOLDER (JOBS=2 SEED=7 RESUME=1 UNSAFE=1; TEACHING.md says more)'
	@echo 'make check        lint, laws and one small notebook, in two minutes: after you edit a sentence'
	@echo 'make test         unit tests, laws, equivalences, every notebook'
	@echo 'make notebooks    rebuild and run the notebooks whose text changed (ALL=1: every one)'
	@echo 'make checkpoints  train the shipped base model again'
	@echo 'make bench        speed beside peers, one table (about half an hour; TEXT=FILE: tinyshakespeare as well; ROWS="grpo dpo": some)'
	@echo '                  SCALE=gpu: what a card makes of it, in ten minutes'
	@echo 'make setup        only set up .venv'
	@echo 'make clean        remove build/ (never .venv)'

setup:
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { echo 'setup: no Python found; install Python 3.11 or newer, or name it: make PYTHON=/path/to/python' >&2; exit 2; }
	@"$(PYTHON)" setup_venv.py

# Make turns a recipe's exit code into its own (always 2); the command's own codes are in its --help.
journey: setup
	@$(RUN) -m minillm.journey --seed="$$SEED" --scale="$$SCALE" $${FROM:+--from="$$FROM"} $${TEXT:+--text="$$TEXT"} $${QA:+--qa="$$QA"} $${TASK:+--task="$$TASK"} $${PREFS:+--prefs="$$PREFS"}

chat: setup
	@$(RUN) -m minillm.chat --seed="$$SEED" $${FROM:+--from="$$FROM"} $${TOOLS:+--tools="$$TOOLS"} $${TRANSCRIPT:+--transcript="$$TRANSCRIPT"} $${TURNS:+--turns="$$TURNS"} $${TOKENS:+--tokens="$$TOKENS"} $${TEMPERATURE:+--temperature="$$TEMPERATURE"}

# A seed is drawn unless SEED is given here; a class that knows the seed knows the inputs.
grade: setup
	@if [ -z "$$IN" ] || [ -z "$$CHAPTER" ] || [ -z "$$OUT" ]; then echo 'grade: give all three: make grade IN=handed-in CHAPTER=13 OUT=results' >&2; exit 2; fi
	@$(RUN) -m grader grade "$$IN" --chapter="$$CHAPTER" --out="$$OUT" $${JOBS:+--jobs="$$JOBS"} $(if $(filter command environment,$(origin SEED)),--seed="$$SEED") $(if $(RESUME),--resume) $(if $(UNSAFE),--unsafe)

# Two files at a time, one thread each: threads of two processes on two cores wait for one another by spinning.
PYTEST := OMP_NUM_THREADS=1 ONE_GRADIENT_PROGRESS=off $(RUN) -m pytest -n 2 --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=120

check: setup
	@$(RUN) -m ruff check
	@$(PYTEST) tests/laws tests/house/test_house.py tests/chapters/test_documents.py solutions/08_lora.ipynb

test: setup
	@$(PYTEST) tests chapters solutions

lab: setup
	@$(RUN) -m jupyterlab $$([ "$$(id -u)" = 0 ] && echo --allow-root)

notebooks: setup
	@$(RUN) chapters/build.py $(if $(ALL),--all)

checkpoints: setup
	@$(RUN) -m minillm.checkpoints

bench: setup
	@$(RUN) -m pip install --quiet --disable-pip-version-check --requirement benchmarks/requirements.txt
	@test -d build/trl-1.12/trl || $(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --target build/trl-1.12 trl==1.12.0
ifeq ($(SCALE),gpu)
	@$(RUN) -m benchmarks.gpu
else
	@$(RUN) -m benchmarks $${TEXT:+--text="$$TEXT"} $(foreach row,$(ROWS),--only=$(row))
	@if command -v bwrap >/dev/null; then $(RUN) -m benchmarks.grading; else echo 'bench: no bwrap, so grading is not timed'; fi
endif

clean:
	rm -rf build
