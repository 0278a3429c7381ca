"""Writes predictions as JSON Lines: `flan-jax infer` as a script.

    python scripts/infer.py --checkpoint=runs/mini --mixture=mini \
        --output=predictions

For launchers that start a Python file. flan_jax need not be installed: it is
found beside this folder.
"""

import pathlib
import sys

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1]))

from flan_jax import cli  # noqa: E402

if __name__ == '__main__':
  sys.exit(cli.main(['infer', *sys.argv[1:]]))
