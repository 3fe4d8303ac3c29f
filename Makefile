# The book's commands. `make help` lists them; each sets up what it needs, once.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: help book test lab store bench links clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' Makefile

book: $(READY)  ## build the site from the stored results, and say where it is
	@# What a failed build leaves behind can make the next one fail too.
	@$(VENV)/bin/jupyter-book build . -W -n --keep-going --quiet || { rm -rf _build; exit 1; }

test: book  ## everything that CI checks: style, units, rules, the site, and every chapter run again
	@$(RUN) -m ruff check && $(RUN) -m ruff format --check --quiet
	@$(RUN) -m pytest --nbval

lab: $(READY)  ## JupyterLab on the chapters
	@LESSONS_DATA="$${LESSONS_DATA:-$(CURDIR)/data}" $(RUN) -m jupyterlab book

store: $(READY)  ## re-execute chapters and write their outputs back: all, or CHAPTERS="name name"
	@$(RUN) -m lessons_lib store $(CHAPTERS)

bench: $(READY)  ## time the library against its peers, and how costs grow: BENCH="--json FILE" keeps the results
	@$(RUN) -m benchmarks $(BENCH)

links: $(READY)  ## try every address outside the site that a page names (takes a network)
	@$(VENV)/bin/jupyter-book build . --builder linkcheck --path-output build/links

clean:  ## remove the site, the environment and the caches; runs/ and data/ stay
	rm -rf $(VENV) _build build *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment is made once, and again when what is pinned changes.
$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing the pinned environment into $(VENV): once, for a minute or more"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install -qq --disable-pip-version-check -r requirements.txt
	@$(RUN) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
