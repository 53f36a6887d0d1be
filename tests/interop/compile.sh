#!/usr/bin/env bash
# Pin the interop environment: versions of uv.lock wherever SAEBench allows them, so that uv has most of them already.
set -euo pipefail
cd "$(dirname "$0")/../.."
locked=$(mktemp)
trap 'rm -f "$locked"' EXIT
uv export --quiet --no-hashes --no-annotate --no-emit-project --all-extras --all-groups \
  | grep -vE '^(numpy|pandas|datasets|fsspec|dill|multiprocess|pyarrow)==' >"$locked"
uv pip compile --quiet --python-version 3.11 --no-annotate --constraint "$locked" --no-emit-package sae-lens-abstopk \
  --custom-compile-command tests/interop/compile.sh pyproject.toml tests/interop/requirements.in \
  --output-file tests/interop/requirements.txt
