PYTHON ?= python3.11
VENV ?= .venv
# What the tests of PyTorch files ran with; PyPI's build for Linux on x86-64 may bring CUDA along.
TORCH ?= torch==2.13.0
# Processes that run tests at the same time.
JOBS ?= 2

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help venv torch onnx test test-slow web test-web coverage lint docs demo clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(INSTALLED)  ## create .venv and install the package with its tools

$(INSTALLED): setup.cfg
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -e '.[dev]'
# opencv-python needs libraries of a desktop, such as libGL. On a machine without them its build without
# windows is laid over it: pip then still finds opencv-python installed, as the package asks.
	$(BIN)/python -c 'import cv2' 2>/dev/null || $(BIN)/python -m pip install --no-deps \
	  --force-reinstall opencv-python-headless==$$($(BIN)/python -c \
	  'from importlib.metadata import version; print(version("opencv-python"))')
	$(BIN)/python -c 'import cv2'
	touch $@

torch: venv  ## add PyTorch, for the tests of its files; without it they are skipped
	$(BIN)/python -m pip install '$(TORCH)'

onnx: venv  ## add onnx and onnxruntime, for the tests of exports; without them they are skipped
	$(BIN)/python -m pip install -e '.[onnx]' onnxruntime

test: venv  ## run the quick tests
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal

test-slow: venv  ## run the tests left out of `make test`
	$(BIN)/python -m pytest -q -m slow

web: venv  ## build the page for the browser, in web/dist/; needs node and npm
	@command -v npm >/dev/null || \
	  { echo 'needed: node 20 or newer with npm, from https://nodejs.org or a package manager'; exit 1; }
	$(BIN)/python -c 'import onnx' 2>/dev/null || $(MAKE) onnx
	npm --prefix web ci --no-audit --no-fund
	$(BIN)/python web/export_models.py web/build/models
	node web/build.mjs
	@echo 'open web/dist/standalone.html, or put web/dist/ on any web server'

test-web: web  ## test the page: its code in node, and itself in Chromium, which must be installed
	@command -v $${CHROMIUM:-chromium} chromium-browser google-chrome >/dev/null || \
	  { echo 'needed: Chromium, by apt-get install chromium, or CHROMIUM=path of another one'; exit 1; }
	$(BIN)/python -c 'import playwright' 2>/dev/null || $(BIN)/python -m pip install playwright
	npm --prefix web test
	$(BIN)/python -m pytest -q web/tests

coverage: venv  ## run the quick tests and list the lines that none of them reaches, in htmlcov/
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal --cov=ldeq_jax --cov-report=term-missing:skip-covered \
	  --cov-report=html

lint: venv  ## check style, formatting and the types of ldeq_jax/
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: venv  ## build the documentation as a site, in docs/_build/; warnings are errors
	$(BIN)/python -m pip install -q -e '.[docs]'
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build
	@echo 'open docs/_build/index.html'

demo: venv  ## make small data sets, train, evaluate and predict, on stills and video, in demo/
	$(BIN)/ldeq build sample_faces --output=demo/sample
	$(BIN)/ldeq build ibug_300w --manual_dir=demo/sample --data_dir=demo/data
	$(BIN)/ldeq train --config=tiny --workdir=demo/run \
	  --config.data.data_dir=demo/data
	$(BIN)/ldeq evaluate --checkpoint=demo/run --dataset=ibug_300w --split=test_common \
	  --data_dir=demo/data --output=demo/eval
	$(BIN)/ldeq predict --checkpoint=faces-68-tiny \
	  --output=demo/portrait.png examples/portrait_1.jpg
	$(BIN)/ldeq build moving_faces/easy --manual_dir=demo/data/ibug_300w/1.0.0 \
	  --data_dir=demo/data --max_examples_per_split=10
	$(BIN)/ldeq evaluate --checkpoint=demo/run --dataset=moving_faces/easy --crop=extent \
	  --data_dir=demo/data --tuning_split='test_common[:50%]' --split='test_common[50%:]' \
	  --aligns=face --budgets=0 --output=demo/video
	$(BIN)/ldeq predict --checkpoint=faces-68 --output=demo/clip.mp4 --compare \
	  --boxes=examples/wflw_v/bboxes/intel_head_pose_male.npy --still_frame=30 \
	  examples/wflw_v/videos/intel_head_pose_male.mp4
	$(BIN)/ldeq track --report --output=demo/tracked examples/intel_three_people_walking.mp4 \
	  examples/wflw_v/videos/intel_head_pose_male.mp4

clean:  ## remove what the other targets made, except .venv
	rm -rf demo build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache htmlcov .coverage docs/_build docs/api \
	  web/build web/dist web/node_modules
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
