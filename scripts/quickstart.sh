#!/usr/bin/env bash
# From nothing to a table: an instruction-tuned model against the untuned one.
#
#   bash scripts/quickstart.sh [more arguments for flan-jax train]
#
# Needs Python 3.11 or newer and nothing else. Settings: OUT (default
# runs/quickstart), SEED (default 0), EXAMPLES (default 100, of each dataset in
# the evaluation), PYTHON, VENV, INSTALL (0: the environment is ready).
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

OUT="${OUT:-runs/quickstart}"
make_environment ''

echo "== training a small model on the mini mixture ($OUT)"
flan-jax train --gin_file=gin/examples/mini.gin \
  --gin.MODEL_DIR="$OUT" --gin.RANDOM_SEED="${SEED:-0}" "$@"

echo "== predicting on the datasets that were held out of training"
flan-jax infer --checkpoint="$OUT" --mixture=mini:held_out \
  --output="$OUT/predictions" --max_examples="${EXAMPLES:-100}"

echo "== evaluating on held-out templates and held-out datasets"
flan-jax eval --checkpoint="$OUT" --output="$OUT/evaluation" \
  --gin.TEMPLATES=held_out --max_examples="${EXAMPLES:-100}"
