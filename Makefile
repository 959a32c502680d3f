# The verbs of this tree; CI calls exactly these.
SHELL := bash
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help up down venv image lock check proto unit test e2e bench bench-proxy clean

help:  ## what can be done here
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 16

up:  ## a master and three nodes on this machine, with the examples
	@scripts/up

down:  ## remove everything that `make up` made
	@scripts/down

venv:  ## .venv with the locked packages and `sampan`
	@scripts/venv

image: venv  ## the image sampan:dev
	@scripts/docker-up up && scripts/image

lock: venv  ## new versions into the lock files
	@scripts/lock

proto: venv  ## generated code from protos/*.proto
	@$(BIN)/python -m protos.generate

check: venv  ## ruff, mypy --strict, import rules, generated code up to date
	@scripts/check

unit: venv  ## the tests that need no Docker
	@$(BIN)/pytest -q -m "not docker and not root and not e2e"

test:  ## check, then every test
	@scripts/test

e2e:  ## only the tests that bring up whole clusters
	@scripts/test -m e2e

bench:  ## the figures of the README
	@scripts/with-docker bench $(BIN)/python -m bench

bench-proxy: venv  ## the service proxy beside HAProxy, nginx and Envoy (needs root)
	@$(BIN)/python -m bench.proxy

clean: down  ## `make down`, and the caches of this tree
	@rm -rf .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build
