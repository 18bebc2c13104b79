# Everything here works on a fresh Debian or Ubuntu machine with Python >= 3.10.
#   make demo   see perception in a minute: no torch, no GPU
#   make test   the whole test suite but for what takes minutes (make test-slow has that)
#   make lint   ruff and mypy

VENV ?= .venv
PYTHON ?= python3
# PyPI's torch brings CUDA, some GB. TORCH_INDEX=https://download.pytorch.org/whl/cpu takes the CPU build.
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
BIN := $(VENV)/bin
# Builds ros2_ws as on a robot; by itself, as it wants an older setuptools.
COLCON ?= .colcon

# The simulation casts rays with embreex, which has no wheel for aarch64: the demo pans over photographs there.
ifeq ($(shell uname -m),x86_64)
DEMO_SOURCE := --simulate 9004 --camera-fps 6 --frames 240
DEMO_GRAPH := $(BIN)/m2h-graph --simulate 9004 --duration 30 --align
else
DEMO_SOURCE := --video out/clip.mp4
DEMO_GRAPH := @echo "no scene graph here: the demo makes it of a simulated walk, and this machine has no simulation"
endif

.PHONY: demo test test-slow lint clean

demo: $(VENV)/.demo
	@mkdir -p out
	$(if $(findstring clip,$(DEMO_SOURCE)),$(BIN)/python tools/demo_clip.py out/clip.mp4)
	$(BIN)/m2h-run $(DEMO_SOURCE) --record out/demo.mp4 --sheet out/demo.png --report out/demo.json
	@echo "look at out/demo.mp4 and out/demo.png; the figures are in out/demo.json"
	$(DEMO_GRAPH)

# In processes of their own: training forks and spawns, and TensorRT-RTX builds plans; beside the thread pools of every
# other inference library both have crashed.
test: $(VENV)/.test $(COLCON)/.ready
	@tools/install_chromium.sh || echo "the dashboard's browser tests are skipped" >&2
	PATH=$(PATH):$(abspath $(COLCON))/bin $(BIN)/python -m pytest --ignore tests/training --ignore tests/export
	$(BIN)/python -m pytest tests/export
	$(BIN)/python -m pytest tests/training

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow --timeout 1500

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(COLCON) out build *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "make: Python >= 3.10 is needed; PYTHON=/path/to/python3.12 make $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) > /dev/null 2>&1 || tools/install_venv.sh $(PYTHON) $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
	$(BIN)/pip install --quiet --editable '.[demo,train,tensorrt-rtx,test,lint]'
	@touch $@

$(COLCON)/.ready: | $(VENV)/bin/python
	@$(PYTHON) -m venv $(COLCON) > /dev/null 2>&1 || tools/install_venv.sh $(PYTHON) $(COLCON)
	$(COLCON)/bin/pip install --quiet 'colcon-ros>=0.5'
	@touch $@
