"""Writes a folder that `from_pretrained` of `transformers` reads.

One tensor at a time is in memory.
"""

from collections.abc import Iterator, Mapping, Sequence
import json
import pathlib
from typing import Any, BinaryIO

from flan_jax import errors
from flan_jax import storage
from flan_jax.checkpoints import foreign
from flan_jax.checkpoints.huggingface import architectures
from flan_jax.checkpoints.huggingface import mapping
from flan_jax.checkpoints.huggingface import reading
from flan_jax.checkpoints.huggingface import safetensors
from flan_jax.checkpoints.huggingface import tokenizers
import numpy as np

# Bytes of a shard, as `save_pretrained` had it for long.
SHARD_BYTES = 5 * 10**9
_GENERATION = 'generation_config.json'


def write(
    directory: pathlib.Path,
    source: foreign.Source,
    vocabulary: str | None,
    dtype: np.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
  """Writes a checkpoint.

  Args:
    directory: Where it goes; the folder exists.
    source: The parameters, the model, and files to carry along: the tokenizer's
      and what the model's first config.json said.
    vocabulary: What `vocabularies.load` makes the vocabulary from; used where
      no tokenizer is carried along. None for none.
    dtype: What tensors are written in; None is what the source has them in.
    shard_bytes: Larger checkpoints become several files.

  Raises:
    UserError: No architecture of `transformers` that we know is this model, or
      a tensor is too large for the dtype.
  """
  name, architecture, said = _architecture(source)
  tensors = list(_tensors(source, architecture, dtype))
  _write_shards(directory, source, tensors, shard_bytes)
  found = {tensor.dtype for tensor in tensors}
  facts = {
      **said,
      **architecture.to_json(source.config),
      'architectures': [name],
  }
  key = 'torch_dtype' if 'torch_dtype' in said else 'dtype'
  # Of several, the widest: it can be all of them.
  facts[key] = max(found, key=lambda each: each.itemsize).name
  _write_json(directory / reading.CONFIG, facts)
  for carried, path in source.files.items():
    if carried != reading.CONFIG:
      storage.write(directory / carried, path.read_bytes())
  if _GENERATION not in source.files:
    _write_json(directory / _GENERATION, _generation(facts))
  if vocabulary is not None and not any(
      carried in source.files
      # A tokenizer of bytes has no other file.
      for carried in (*reading.VOCABULARIES, reading.TOKENIZER)
  ):
    tokenizers.write(directory, vocabulary)


def _architecture(
    source: foreign.Source,
) -> tuple[str, mapping.Architecture, dict[str, Any]]:
  """Returns what to write a model as, and what its config.json said before.

  That is what it came from, if it still is that; else the first that fits.
  """
  carried = source.files.get(reading.CONFIG)
  if carried is not None:
    said = reading.read_config(carried.parent)
    for name in said.get('architectures') or ():
      found = architectures.ALL.get(name)
      if found is not None and found.fits(source.config):
        return name, found, said
  for name, found in architectures.ALL.items():
    if found.fits(source.config):
      return name, found, {}
  raise errors.UserError(
      f'{source.path}: no architecture of transformers is this model; those'
      f' known are {", ".join(architectures.ALL)}'
  )


class _Tensor:
  """A tensor that is to be written.

  Attributes:
    name: Its name.
    shape: Its shape.
    dtype: Its dtype.
  """

  def __init__(
      self,
      source: foreign.Source,
      entries: Sequence[mapping.Entry],
      dtype: np.dtype | None,
  ):
    self.name = entries[0].theirs
    self._source = source
    self._entries = entries
    self.dtype = dtype or source.shapes[entries[0].ours][1]
    self.shape = entries[0].whole(
        source.shapes[entries[0].ours][0],
        [entry.part for entry in entries],
    )

  @property
  def nbytes(self) -> int:
    """The number of its bytes."""
    return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

  def write(self, file: BinaryIO) -> None:
    """Writes it.

    Raises:
      UserError: A number is too large for the dtype.
    """
    first, *more = self._entries
    if first.part is None:
      tensor = first.back(self._cast(first))
    else:
      tensor = np.empty(self.shape, self.dtype)
      for entry in (first, *more):
        entry.of(tensor)[...] = self._cast(entry)
    # Python knows no bfloat16; bytes it knows.
    whole = np.ascontiguousarray(tensor).reshape(-1)
    file.write(whole.view(np.uint8).data)

  def _cast(self, entry: mapping.Entry) -> np.ndarray:
    found = self._source.read(entry.ours)
    if found.dtype == self.dtype:
      return found
    with np.errstate(over='ignore'):
      cast = found.astype(self.dtype)
    if not np.isfinite(cast).all() and np.isfinite(found).all():
      raise errors.UserError(
          f'--dtype: {entry.ours} has numbers that are too large for'
          f' {self.dtype.name}'
      )
    return cast


def _tensors(
    source: foreign.Source,
    architecture: mapping.Architecture,
    dtype: np.dtype | None,
) -> Iterator[_Tensor]:
  """Yields the tensors of the table, in its order."""
  groups: dict[str, list[mapping.Entry]] = {}
  for entry in architecture.names(source.config):
    groups.setdefault(entry.theirs, []).append(entry)
  for entries in groups.values():
    yield _Tensor(source, entries, dtype)


def _write_shards(
    directory: pathlib.Path,
    source: foreign.Source,
    tensors: Sequence[_Tensor],
    shard_bytes: int,
) -> None:
  """Writes one file, or several and an index."""
  shards: list[list[_Tensor]] = [[]]
  room = shard_bytes
  for tensor in tensors:
    if shards[-1] and tensor.nbytes > room:
      shards.append([])
      room = shard_bytes
    shards[-1].append(tensor)
    room -= tensor.nbytes
  names = [safetensors.SINGLE]
  if len(shards) > 1:
    names = [
        f'model-{place:05}-of-{len(shards):05}.safetensors'
        for place in range(1, len(shards) + 1)
    ]
    _write_json(
        directory / safetensors.INDEX,
        {
            'metadata': {'total_size': sum(t.nbytes for t in tensors)},
            'weight_map': {
                tensor.name: name
                for name, shard in zip(names, shards, strict=True)
                for tensor in shard
            },
        },
    )
  for name, shard in zip(names, shards, strict=True):
    header = safetensors.header({t.name: (t.shape, t.dtype) for t in shard})
    with (directory / name).open('wb') as file:
      file.write(header)
      for tensor in shard:
        tensor.write(file)


def _generation(facts: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what decoding has to know of a model."""
  keys = (
      'bos_token_id',
      'decoder_start_token_id',
      'eos_token_id',
      'pad_token_id',
  )
  return {key: facts[key] for key in keys if facts.get(key) is not None}


def _write_json(path: pathlib.Path, facts: Mapping[str, Any]) -> None:
  text = json.dumps(facts, indent=2, sort_keys=True) + '\n'
  storage.write(path, text)
