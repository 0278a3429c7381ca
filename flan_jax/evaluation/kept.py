"""Answers of finished blocks, kept until an evaluation is done.

An evaluation that was killed asks again for what it had not finished; all else
is read from its folder. A block has a name that is a hash of the model, how it
is asked, and every text of the block, so what was kept is never taken for the
answers of another model or of other rows.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from typing import Any

from flan_jax import hosts
from flan_jax import storage
from flan_jax.data import examples as examples_lib
from flan_jax.evaluation import scoring

FOLDER = 'unfinished'


class Keeper:
  """Keeps the answers of one system; on several hosts, the first one does."""

  def __init__(
      self,
      output_dir: str | os.PathLike[str],
      facts: Mapping[str, Any],
      first: bool = True,
  ):
    """Looks at nothing yet.

    Args:
      output_dir: Where the evaluation goes.
      facts: What the answers depend on beside the examples: the checkpoint, the
        lengths and so on; JSON values.
      first: Whether this host is the one that reads and writes.
    """
    self.reused = 0
    self._folder = pathlib.Path(output_dir) / FOLDER
    self._facts = json.dumps(facts, sort_keys=True, default=str)
    self._first = first

  def find(
      self, asked: Sequence[examples_lib.Example], ranked: bool
  ) -> list[scoring.Answer] | None:
    """Returns the answers to a block, None if they are not here."""
    found = None
    if self._first:
      try:
        found = json.loads(self._path(asked, ranked).read_text('utf-8'))
      except FileNotFoundError:
        pass
    found = hosts.gather(found)[0]
    if found is None:
      return None
    self.reused += len(found)
    return [_answer(each) for each in found]

  def keep(
      self,
      asked: Sequence[examples_lib.Example],
      ranked: bool,
      said: Sequence[scoring.Answer],
  ) -> None:
    """Writes the answers to a block, whole or not at all."""
    if not self._first:
      return
    path = self._path(asked, ranked)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [dataclasses.asdict(each) for each in said]
    storage.write(path, json.dumps(rows, ensure_ascii=False))

  def _path(
      self, asked: Sequence[examples_lib.Example], ranked: bool
  ) -> pathlib.Path:
    digest = hashlib.sha256(self._facts.encode())
    digest.update(b'rank' if ranked else b'generate')
    for each in asked:
      texts = [each.task, each.row_id, each.inputs, each.options]
      digest.update(json.dumps(texts).encode())
    return self._folder / f'{digest.hexdigest()[:32]}.json'


def forget(output_dir: str | os.PathLike[str]) -> None:
  """Removes what was kept, once the evaluation is done."""
  shutil.rmtree(pathlib.Path(output_dir) / FOLDER, ignore_errors=True)


def _answer(row: dict[str, Any]) -> scoring.Answer:
  scores = row.pop('option_scores')
  return scoring.Answer(
      **row, option_scores=None if scores is None else tuple(scores)
  )
