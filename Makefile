# Everything a newcomer needs: `make demo` and `make test` work on a machine with Python 3.10-3.12 and make, nothing else.

PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10 python; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
TEST_VENV ?= .venv-test
NEWEST_VENV ?= .venv-newest
DEMO ?= demo
PIP_ARGS ?=
TESTS ?= tests
PORT ?= 8000
# Two test processes of one thread each: faster on two cores than one process of two threads.
PYTEST = -m pytest -n 2 --dist loadscope

INSTALLED = .installed-from-setup.cfg

.PHONY: help demo serve test test-newest lint clean

help:
	@echo "make demo         install into $(VENV), write a phantom CT study, answer three questions about it"
	@echo "make serve        install the server's pinned packages into $(TEST_VENV), serve the phantom study on 127.0.0.1:$(PORT)"
	@echo "make test         install with the server's pinned packages into $(TEST_VENV), run the tests"
	@echo "make test-newest  the same tests with the newest packages, in $(NEWEST_VENV)"
	@echo "make lint         ruff over the code"
	@echo "make clean        remove the environments and the demo"

define need_python
@test -n "$(PYTHON)" || { echo "No Python 3.10, 3.11 or 3.12 found. Install one, or run: make $@ PYTHON=/path/to/python3.11"; exit 2; }
endef

$(VENV)/$(INSTALLED): setup.cfg
	$(need_python)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -e .
	touch $@

$(TEST_VENV)/$(INSTALLED): setup.cfg
	$(need_python)
	$(PYTHON) -m venv $(TEST_VENV)
	$(TEST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -e ".[label,numba,dev]"
	touch $@

$(NEWEST_VENV)/$(INSTALLED): setup.cfg
	$(need_python)
	$(PYTHON) -m venv $(NEWEST_VENV)
	$(NEWEST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade $(PIP_ARGS) -e ".[numba,dev]"
	touch $@

demo: $(VENV)/$(INSTALLED)
	$(VENV)/bin/radclear phantom --output $(DEMO)/phantom --studies 1 --seed 11
	$(VENV)/bin/radclear predict $(DEMO)/phantom/studies/phantom-0000 --output $(DEMO)/answers --no-resume

serve: $(TEST_VENV)/$(INSTALLED)
	$(TEST_VENV)/bin/radclear phantom --output $(DEMO)/phantom --studies 1 --seed 11
	@echo "The page for readers, as soon as the server is up: http://127.0.0.1:$(PORT)/radclear/"
	$(TEST_VENV)/bin/python -m monailabel.main start_server --app monailabel_app --studies $(DEMO)/phantom/studies \
		--host 127.0.0.1 --port $(PORT) --conf data $(DEMO)/server

test: $(TEST_VENV)/$(INSTALLED)
	OMP_NUM_THREADS=1 $(TEST_VENV)/bin/python $(PYTEST) $(TESTS)

test-newest: $(NEWEST_VENV)/$(INSTALLED)
	OMP_NUM_THREADS=1 $(NEWEST_VENV)/bin/python $(PYTEST) $(TESTS)

lint: $(TEST_VENV)/$(INSTALLED)
	$(TEST_VENV)/bin/ruff check .

clean:
	rm -rf $(VENV) $(TEST_VENV) $(TEST_VENV)-slicer $(NEWEST_VENV) $(DEMO)
