"""Trains a model on a mixture: `flan-jax train` as a script.

    python scripts/train.py --gin_file=gin/examples/mini.gin \
        --gin.MODEL_DIR=runs/mini

For launchers that start a Python file. flan_jax need not be installed: it is
found beside this folder.
"""

import pathlib
import sys

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1]))

from flan_jax import cli  # noqa: E402

if __name__ == '__main__':
  sys.exit(cli.main(['train', *sys.argv[1:]]))
