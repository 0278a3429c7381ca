"""Scores checkpoints and writes a report: `flan-jax eval` as a script.

    python scripts/eval.py --checkpoint=runs/mini --output=evaluation

For launchers that start a Python file. flan_jax need not be installed: it is
found beside this folder.
"""

import pathlib
import sys

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1]))

from flan_jax import cli  # noqa: E402

if __name__ == '__main__':
  sys.exit(cli.main(['eval', *sys.argv[1:]]))
