"""Reads a folder as Hugging Face's `save_pretrained` writes it."""

from collections.abc import Mapping
import functools
import hashlib
import json
import pathlib
import re
from typing import Any

from flan_jax import errors
from flan_jax import storage
from flan_jax import vocabularies
from flan_jax.checkpoints import foreign
from flan_jax.checkpoints.huggingface import architectures
from flan_jax.checkpoints.huggingface import mapping
from flan_jax.checkpoints.huggingface import safetensors
from flan_jax.models import config as model_config
import numpy as np

CONFIG = 'config.json'
TOKENIZER = 'tokenizer_config.json'
# Files that go where the model goes, in the order of preference as vocabulary.
VOCABULARIES = vocabularies.FILES
CARRIED = (
    CONFIG,
    'generation_config.json',
    *VOCABULARIES,
    TOKENIZER,
    'special_tokens_map.json',
    'added_tokens.json',
    'vocab.json',
    'vocab.txt',
    'merges.txt',
    'chat_template.jinja',
    'chat_template.json',
)
# Bytes of each tensor that tell two checkpoints apart.
_SAMPLE = 1024


class Checkpoint:
  """A folder of Hugging Face's; see `foreign.Source`.

  Attributes:
    architecture: Its name.
    facts: What config.json says.
    ignored: Names of tensors that say nothing new.
  """

  format = 'huggingface'
  step = 0
  assumed: tuple[str, ...] = ()

  def __init__(self, path: pathlib.Path):
    """Reads config.json and the headers.

    Raises:
      UserError: Something of it is missing or broken, or the architecture is
        none that is supported.
    """
    self.path = path
    self.facts = read_config(path)
    self.architecture, known = _architecture(path, self.facts)
    self._tensors = safetensors.folder(path)
    try:
      self.config: model_config.ModelConfig = known.config(
          self.facts, self._tensors
      )
    except errors.UserError as error:
      raise errors.UserError(f'{path / CONFIG}: {error}') from error
    self._entries: dict[str, tuple[mapping.Entry, str]] = {}
    read = set()
    for entry in known.names(self.config):
      for name in (entry.theirs, *entry.other_names):
        if name in self._tensors:
          self._entries[entry.ours] = entry, name
          read.add(name)
          break
    self._origins = {e.ours: e.theirs for e in known.names(self.config)}
    rest = set(self._tensors) - read
    ignored = re.compile('|'.join(known.ignored) or '(?!)')
    self.ignored = sorted(name for name in rest if ignored.fullmatch(name))
    self._unknown = sorted(rest.difference(self.ignored))

  @functools.cached_property
  def shapes(self) -> Mapping[str, tuple[foreign.Shape, np.dtype]]:
    """See `foreign.Source`; tensors that no model has keep their own names."""
    found = {}
    for ours, (entry, name) in self._entries.items():
      tensor = self._tensors[name]
      found[ours] = entry.shape(tensor.shape), _dtype(tensor)
    for name in self._unknown:
      tensor = self._tensors[name]
      found[name] = tensor.shape, _dtype(tensor)
    return found

  @property
  def vocabulary(self) -> str | None:
    """The SentencePiece model, the folder of another tokenizer, or 'bytes'."""
    for name in VOCABULARIES:
      if name in self.files:
        whole = name.endswith('.json')
        return str(self.path if whole else self.files[name])
    if TOKENIZER in self.files and _read_json(self.files[TOKENIZER]).get(
        'tokenizer_class'
    ) in ('ByT5Tokenizer', 'ByT5TokenizerFast'):
      return 'bytes'  # There is nothing to be in a file.
    return None

  @functools.cached_property
  def files(self) -> Mapping[str, pathlib.Path]:
    """See `foreign.Source`."""
    return {
        name: self.path / name
        for name in CARRIED
        if (self.path / name).is_file()
    }

  def read(self, name: str, index: foreign.Index | None = None) -> np.ndarray:
    """See `foreign.Source`. The memory map lives as long as this call."""
    if name in self._entries:
      entry, theirs = self._entries[name]
      return entry.taken(self._tensors[theirs].array(), index)
    view = self._tensors[name].array()
    return np.array(view if index is None else view[index], order='C')

  def origin(self, name: str) -> str:
    """Returns the tensor's name."""
    if name in self._entries:
      return self._entries[name][1]
    return self._origins.get(name, name)

  def identity(self) -> str:
    """Returns what tells this checkpoint from others, wherever it lies.

    It is a hash of config.json, of the tensors' names and shapes, and of the
    first bytes of each.
    """
    found = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode())
    for name, tensor in sorted(self._tensors.items()):
      found.update(f'{name} {tensor.dtype} {tensor.shape}'.encode())
      with tensor.path.open('rb') as file:
        file.seek(tensor.begin)
        found.update(file.read(min(_SAMPLE, tensor.end - tensor.begin)))
    return found.hexdigest()[:16]


def read_config(path: pathlib.Path) -> dict[str, Any]:
  """Returns what a folder's config.json says.

  Raises:
    UserError: It is missing or no JSON object.
  """
  return _read_json(path / CONFIG)


def _read_json(file: pathlib.Path) -> dict[str, Any]:
  """Returns the object that a file holds."""
  try:
    facts = json.loads(file.read_text(encoding='utf-8'))
  except OSError as error:
    raise errors.UserError(f'{file}: {storage.reason(error)}') from error
  except ValueError as error:
    raise errors.UserError(f'{file}: is no JSON: {error}') from error
  if not isinstance(facts, dict):
    raise errors.UserError(f'{file}: is no JSON object')
  return facts


def _architecture(
    path: pathlib.Path, facts: mapping.Json
) -> tuple[str, mapping.Architecture]:
  """Returns the architecture that config.json names."""
  given = facts.get('architectures')
  named = given if isinstance(given, list) else []
  for name in named:
    if name in architectures.ALL:
      return name, architectures.ALL[name]
  there = ', '.join(map(str, named)) or (
      f'none, and model_type {facts.get("model_type")!r}'
  )
  raise errors.UserError(
      f'{path / CONFIG}: architectures: {there} is not supported; supported'
      f' are {", ".join(architectures.ALL)}'
  )


def _dtype(tensor: safetensors.Tensor) -> np.dtype:
  return safetensors.DTYPES.get(tensor.dtype, np.dtype(np.void))
