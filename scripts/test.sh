#!/usr/bin/env bash
# Installs everything the tests need and runs them all, linters included.
#
#   bash scripts/test.sh [arguments for pytest]
#
# Settings: PYTHON, VENV (as in quickstart.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

make_environment '[dev]'

# The report is looked at in a real browser where one can be had.
if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null &&
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo '== installing chromium for the report tests'
  apt-get -qq update && apt-get -qq install -y chromium >/dev/null ||
    echo 'no chromium to be had: the browser tests will say they are skipped'
fi

echo '== format, lint, types'
pyink --check --quiet .
ruff check .
mypy

echo '== tests'
# Files in the order of tests/conftest.py: those that take long first. Many wait
# for other processes, so three workers are quicker than two on two cores.
python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -q -rs "$@"
