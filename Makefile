# Every target sets itself up: a virtual environment in .venv, with the versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Keras's development build has an environment of its own, which replaces Keras there.
NEXT := .venv-next
PIP := python -m pip --quiet --disable-pip-version-check
INSTALL := $(PIP) install --constraint constraints.txt --editable
EXTRAS := cpu,recipes,japanese,music,chemistry,pieces,onnx,litert,test,lint,docs
# Two processes: TensorFlow takes a gigabyte in each. tests/conftest.py orders the groups.
PYTEST := python -m pytest --numprocesses 2 --dist loadgroup --no-loadscope-reorder
SUITE := $(PYTEST) -m "not torch and not models and not site and not runtimes"

.PHONY: help demo test test-jax test-next test-torch test-models test-runtimes lint format docs \
	bench bench-jax clean

help:
	@echo "make demo        run two trained models; then train on real speech, evaluate, export"
	@echo "make test        the tests, on TensorFlow"
	@echo "make test-jax    the tests of layers, decoding and the zoo, on JAX"
	@echo "make test-torch  the comparisons with PyTorch, and layers and decoders on PyTorch (downloads it)"
	@echo "make test-next   the tests, on Keras's newest development build (downloads it)"
	@echo "make test-models the trained models, on their real test data (downloads it): some minutes"
	@echo "make test-runtimes  ONNX files in onnxruntime (five versions, node, web) and OpenVINO"
	@echo "                 (downloads them; needs node and npm)"
	@echo "make lint        style, and the direction of imports"
	@echo "make format      correct the style"
	@echo "make docs        the documentation as a site, in build/docs"
	@echo "make bench       compare speed with Keras and PyTorch (downloads PyTorch), also of the exports:"
	@echo "                 an hour or two, on the CPU (on a GPU: python -m benchmarks.gpu)"
	@echo "                 (results of recipes: python -m benchmarks.quality RECIPE)"
	@echo "make bench-jax   compare speed on JAX with Keras and Flax (downloads both), on the CPU: an hour"
	@echo "make clean       remove everything that make created, except runs/"

demo: $(VENV)/installed
	$(BIN)/kerasrnn predict g2p keras tensorflow backpropagation --zoo --output build
	$(BIN)/kerasrnn predict movie_sentiment --zoo "A moving, funny and beautifully acted film." "Too long, and not funny."
	$(BIN)/kerasrnn train japanese_vowels
	$(BIN)/kerasrnn export japanese_vowels
	$(BIN)/kerasrnn predict japanese_vowels --test 0 1 2

test: $(VENV)/installed
	$(BIN)/$(SUITE)

test-jax: $(VENV)/installed-jax
	KERAS_BACKEND=jax $(BIN)/$(PYTEST) -m "not tensorflow and not torch" $(addprefix tests/, \
		attention cells decoding distributions heads layers losses metrics recurrence text zoo \
		test_programs.py)

test-torch: $(VENV)/installed-peers
	$(BIN)/python -m pytest -m torch $(addprefix tests/, \
		test_torch.py cells/test_reservoirpy.py cells/test_torchrecurrent.py export heads \
		layers/test_librosa.py losses test_house.py)
	KERAS_BACKEND=torch $(BIN)/python -m pytest -m torch_backend $(addprefix tests/, \
		cells decoding distributions export/test_keras_layers.py heads layers/test_sound.py \
		layers/test_spec_augment.py losses recurrence)

test-next: $(NEXT)/installed
	$(NEXT)/bin/$(PIP) install --no-deps --upgrade --pre keras-nightly
	$(NEXT)/bin/$(SUITE)

test-models: $(VENV)/installed
	$(BIN)/python -m pytest -m models tests/models

# Each in a folder of its own. 1.15.1 is of before NumPy 2; onnxruntime-node's script would fetch CUDA.
RUNTIMES := $(addprefix build/runtimes/, \
	onnxruntime-1.15.1 onnxruntime-1.19.2 onnxruntime-1.23.2 onnxruntime-1.25.1 onnxruntime-1.32.0 \
	onnxruntime-node-1.30.0 onnxruntime-web-1.30.0 openvino-2026.4.1)

test-runtimes: $(VENV)/installed $(RUNTIMES)
	$(BIN)/python -m pytest -m runtimes tests/export/test_runtimes.py

define FROM_NPM
	name=$(@F); npm install --silent --no-save --no-package-lock --ignore-scripts \
		--prefix $@.new $${name%-*}@$${name##*-}
	mv $@.new $@
endef

build/runtimes/onnxruntime-node-%:
	$(FROM_NPM)

build/runtimes/onnxruntime-web-%:
	$(FROM_NPM)

build/runtimes/%: | $(VENV)/installed
	name=$(@F); $(BIN)/$(PIP) install \
		--target $@.new $${name%-*}==$${name##*-} 'numpy$(if $(findstring -1.15,$@),<2,>=2)'
	mv $@.new $@

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# The checkout's folders, laid out as they are installed; linted from there, since a tool that
	@# is started here finds the checkout's kerasrnn, without its zoo and recipes.
	rm -rf build/house
	mkdir -p build/house
	cp -r kerasrnn build/house/
	cp -r zoo recipes build/house/kerasrnn/
	cd build/house && PYTHONPATH=. ../../$(BIN)/lint-imports --config ../../.importlinter --no-cache

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/installed
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs
	$(BIN)/python -m pytest -q -m site tests/docs
	@echo "the site: build/docs/index.html"

bench: $(VENV)/installed-torch
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.export

bench-jax: $(VENV)/installed-flax
	KERAS_BACKEND=jax $(BIN)/python -m benchmarks.speed

clean:
	rm -rf $(VENV) $(NEXT) build docs/generated dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"kerasrnn needs Python 3.11 or newer; choose one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/$(INSTALL) '.[$(EXTRAS)]'
	touch $@

# Both distributions of Keras install the package `keras`, so only one of them may be installed.
$(NEXT)/installed: setup.cfg pyproject.toml constraints.txt
	rm -rf $(NEXT)
	$(PYTHON) -m venv $(NEXT)
	$(NEXT)/bin/$(INSTALL) '.[$(EXTRAS)]'
	$(NEXT)/bin/$(PIP) uninstall --yes keras
	touch $@

$(VENV)/installed-%: $(VENV)/installed
	$(BIN)/$(INSTALL) '.[$*]'
	touch $@
