# Every target sets the machine up first; that is nothing when all is in place.
.PHONY: demo test test-full coverage lint setup docs figures clean
.NOTPARALLEL:

demo: setup
	@.venv/bin/dtmm demo $(ARGS)

# Lint first, so that pytest's closing line is the last one.
test: lint
	@.venv/bin/python -m pytest --numprocesses=auto --dist=loadfile $(ARGS)

# The same tests under coverage, which slows them down.
coverage: setup
	@.venv/bin/python -m pytest --numprocesses=auto --dist=loadfile --cov --cov-report=term $(ARGS)

test-full: lint
	@scripts/test_full.sh $(ARGS)

lint: setup
	@scripts/lint.sh

# Figures, LaTeX and docs/reproduce.md, from the committed tables alone.
figures: setup
	@.venv/bin/python -m experiments.overall >/dev/null
	@.venv/bin/python -m experiments.run all --figures-only
	@.venv/bin/python -m experiments.reproduce

docs: setup
	@.venv/bin/pdoc --docformat google --output-directory build/docs dtmm

setup:
	@scripts/setup.sh

clean:
	rm -rf .venv build dist
