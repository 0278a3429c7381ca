"""environment.json: what each start of a run ran on."""

from collections.abc import Mapping
import datetime
import json
import pathlib
import sys
from typing import Any

from flan_jax import environment
from flan_jax import storage

FILE = 'environment.json'


def add(directory: pathlib.Path, facts: Mapping[str, Any]) -> None:
  """Adds a start to a MODEL_DIR's environment.json.

  Args:
    directory: The MODEL_DIR, which exists.
    facts: What else is to be said of it, fit for JSON.
  """
  now = datetime.datetime.now(datetime.UTC)
  start = {
      'time': now.isoformat(timespec='seconds'),
      'command': sys.argv,
      **facts,
      **environment.describe(),
  }
  text = json.dumps({'starts': [*read(directory), start]}, indent=2)
  storage.write(directory / FILE, text + '\n')


def read(directory: pathlib.Path) -> list[dict[str, Any]]:
  """Returns a run's starts, the newest last; none if it does not say."""
  try:
    return json.loads((directory / FILE).read_text(encoding='utf-8'))['starts']
  except (OSError, ValueError, KeyError):
    return []
