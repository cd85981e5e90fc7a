# The commands of the course. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NEWS := @jupyterlab/apputils-extension:announcements  # it asks for updates, and whether to bring news

.DEFAULT_GOAL := help
.PHONY: help install run lab test bench rooms notebooks sync checkpoints tensorboard lint clean

help:  ## list the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f'Python {v[0]}.{v[1]} cannot run TensorFlow 2.21; install Python 3.11, 3.12 or 3.13 and say: make run PYTHON=python3.12')"
	@echo "Setting up $(VENV) (once; about 3 GB)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@$(BIN)/jupyter labextension disable --level=sys_prefix $(NEWS) 2>/dev/null
	@touch $(READY)

install: $(READY)  ## set up .venv; every other command does so where it is needed

run: $(READY)  ## execute every lesson at the quick scale, offline: runs/quick/index.html
	@GENLIB_OFFLINE=1 $(BIN)/genlib run all --preset quick

lab: $(READY)  ## open JupyterLab
	@$(BIN)/jupyter lab --notebook-dir notebooks

test: $(READY)  ## lint, then every test
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

bench: $(READY)  ## time the course beside published recipes, on this machine
	@$(BIN)/python tests/benchmarks

rooms: $(READY)  ## show the rooms of the package and which imports which
	@$(BIN)/python -m genlib.authoring.rooms

notebooks: $(READY)  ## execute every lesson at the default scale, in place
	@$(BIN)/python -m genlib.authoring.execute

sync: $(READY)  ## copy genlib's definitions into the lessons' tagged cells
	@$(BIN)/python -m genlib.authoring.sync

checkpoints: $(READY)  ## train what data/checkpoints ships (needs MNIST and Shakespeare)
	@$(BIN)/python -m genlib.authoring.train

tensorboard: $(READY)  ## curves of all runs
	@$(BIN)/tensorboard --logdir runs

lint: $(READY)  ## format and check the code and the notebooks
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

clean:  ## remove the runs and the environment; downloaded data stay
	rm -rf $(VENV) runs build *.egg-info
