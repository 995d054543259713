# Everything a person does with this checkout. `make` alone lists it.
#
# Two environments: .venv holds what the daemon needs and nothing else, so that what we start is what a user starts and
# an import of torch or pandas in the daemon fails at once; .venv-dev adds training and tests, with the same versions of
# everything both hold. Each is made anew when its lock changes, so that no package outlives its line in the lock.
# `make install` is apart from both: it makes a service of sacd, with environments of its own that need no checkout.

PYTHON ?= python3
CONFIG ?= config.toml
PYTEST_ARGS ?=
TORCH_ARGS ?=
UPGRADE ?=
PREFIX ?= /usr/local
DESTDIR ?=
TRAIN ?= yes
export PYTHON PREFIX DESTDIR TRAIN TORCH_ARGS

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help paper venv install uninstall test soak check bench clean lock

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

paper: venv ## trade on paper as config.toml says (CONFIG=FILE for another)
	@exec .venv/bin/sacd run --config '$(CONFIG)'

venv: .venv/bin/sacd ## make .venv: the daemon and its dependencies, from the lock

install: ## make a service of it (PREFIX=/usr/local DESTDIR= PYTHON=python3 TRAIN=no for one that never retrains)
	systemd/install put

uninstall: ## take the service off again; configuration and state stay
	systemd/install remove

test: .venv-dev/bin/sacd ## run the tests, all but the long ones (PYTEST_ARGS=... for pytest)
	.venv-dev/bin/python -m pytest -n 3 --dist worksteal -m 'not soak' $(PYTEST_ARGS)

soak: .venv-dev/bin/sacd ## run the tests that take minutes
	.venv-dev/bin/python -m pytest -m soak $(PYTEST_ARGS)

check: .venv-dev/bin/sacd ## lint, check types and who imports what
	.venv-dev/bin/ruff check .
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/mypy
	.venv-dev/bin/python -m pytest -q tests/test_architecture.py

bench: .venv-dev/bin/sacd ## measure speed and size against the usual way
	.venv-dev/bin/python -m benchmarks

clean: ## remove the environments and whatever else was made here
	rm -rf .venv .venv-dev .venv-lock build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find benchmarks daemon strategy training tests -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment's `locked` says that its packages are whole; `sacd` is written last, so an installation that was cut
# short is taken up again by the next make.
.venv/locked: requirements/build.txt requirements/runtime.txt
	requirements/environment lock .venv requirements/build.txt requirements/runtime.txt
	@touch $@

# peewee: empyrical-reloaded, by which the tests check our metrics, pins one of which there is no wheel. It is plain Python
# but for an extension to SQLite that nobody needs here.
.venv-dev/locked: requirements/torch.txt requirements/dev.txt
	SOURCE=peewee NO_SQLITE=1 BEFORE=requirements/torch.txt BEFORE_ARGS='$(TORCH_ARGS)' requirements/environment lock .venv-dev requirements/dev.txt
	@touch $@

.venv-lock/locked: requirements/lock.txt
	requirements/environment lock .venv-lock requirements/lock.txt
	@touch $@

.venv/bin/sacd .venv-dev/bin/sacd: %/bin/sacd: %/locked pyproject.toml
	requirements/environment project $*
	@touch $@

# Locks name packages, versions and hashes, never the place a machine fetches from. A pin stays until pyproject.toml
# forbids it; UPGRADE=--upgrade moves all of them. torch and what only its CUDA builds need are left out
# (requirements/torch.txt says why); its other dependencies are pinned like the rest.
CUDA := triton cuda-bindings cuda-pathfinder cuda-toolkit $(addprefix nvidia-,cublas cuda-cupti cuda-nvrtc cuda-runtime \
	cudnn-cu13 cufft cufile curand cusolver cusparse cusparselt-cu13 nccl-cu13 nvjitlink nvshmem-cu13 nvtx)
COMPILE = CUSTOM_COMPILE_COMMAND='make lock' .venv-lock/bin/pip-compile --quiet --no-config --generate-hashes \
	--strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options $(UPGRADE)

lock: .venv-lock/locked ## write requirements/*.txt anew from pyproject.toml (UPGRADE=--upgrade)
	$(COMPILE) -o requirements/runtime.txt pyproject.toml
	$(COMPILE) --only-build-deps --build-deps-for editable -c requirements/runtime.txt \
		-o requirements/build.txt pyproject.toml
	$(COMPILE) --build-deps-for editable --extra train --extra ray --extra dev -c requirements/runtime.txt -c requirements/build.txt \
		$(addprefix --unsafe-package ,torch $(CUDA)) -o requirements/dev.txt pyproject.toml
	$(COMPILE) --extra train -c requirements/dev.txt $(addprefix --unsafe-package ,torch $(CUDA)) \
		-o requirements/train.txt pyproject.toml
	$(COMPILE) --allow-unsafe -c requirements/dev.txt -o requirements/lock.txt requirements/lock.in
