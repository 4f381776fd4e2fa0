PYTHON ?= python3
BIN := .venv/bin
SHELL := /bin/bash
unexport PYTHONDONTWRITEBYTECODE # without compiled modules each new process compiles torch and the rest again: 10 s

.DEFAULT_GOAL := help
.PHONY: help install demo test slow lint type bench report docs gallery clean

help: ## what you can do here
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

install: .venv/installed ## a virtual environment with everything in it

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'
	touch $@

demo: install ## random against OHEM on the embedded data, two runs side by side, then the report
	$(BIN)/python -m harness -m hydra/launcher=joblib sampler=random,ohem run.threads=1
	$(BIN)/python -m harness.report results

test: install ## the whole test suite but what is marked slow
	$(BIN)/python -m pytest -n auto --dist worksteal -q

slow: install ## the tests that take minutes: compiled kernels, trainings, a fresh clone
	$(BIN)/python -m pytest -q -m slow

lint: install ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: install ## mypy
	$(BIN)/mypy harness

bench: install ## the ratios of benchmarks/README.md, measured here
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/target_assignment.py

report: install ## the report of everything under results/
	$(BIN)/python -m harness.report results

docs: install ## the documentation, build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

gallery: install ## the pictures of the documentation: every assigner and sampler on two images
	$(BIN)/python -m harness.inspect.gallery docs/gallery
	$(BIN)/python -m tests.readme

clean: ## remove the environment and caches, keep results
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
