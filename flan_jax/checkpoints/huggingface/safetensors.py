"""The safetensors format: a header of names, and the tensors' bytes.

A file is 8 bytes with the header's length (little-endian), the header, which is
JSON ({"NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}), and
the tensors' bytes, row by row, little-endian, at those offsets.
https://huggingface.co/docs/safetensors
"""

from collections.abc import Mapping
import dataclasses
import json
import math
import pathlib
import struct

from flan_jax import errors
from flan_jax import storage
import ml_dtypes
import numpy as np

INDEX = 'model.safetensors.index.json'
SINGLE = 'model.safetensors'
DTYPES = {
    'F64': np.dtype('<f8'),
    'F32': np.dtype('<f4'),
    'F16': np.dtype('<f2'),
    'BF16': np.dtype(ml_dtypes.bfloat16),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
# The header of a model of a thousand layers is some hundred kilobytes.
_LONGEST_HEADER = 100 << 20
_LFS = b'version https://git-lfs'


@dataclasses.dataclass(frozen=True)
class Tensor:
  """Where a tensor lies.

  Attributes:
    path: The file.
    dtype: Its name in the format.
    shape: Its shape.
    begin: Where it begins in the file, in bytes.
    end: Where it ends.
  """

  path: pathlib.Path
  dtype: str
  shape: tuple[int, ...]
  begin: int
  end: int

  def array(self) -> np.ndarray:
    """Returns the tensor, memory-mapped: what is looked at is read.

    A bucket's file has no memory map: the tensor's bytes are read.

    Raises:
      UserError: It is of a dtype that models of ours do not have.
    """
    dtype = DTYPES.get(self.dtype)
    if dtype is None:
      raise errors.UserError(
          f'{self.path}: holds tensors of dtype {self.dtype}, and'
          f' {", ".join(DTYPES)} are supported; dequantise the model first'
      )
    if storage.is_address(self.path):
      with self.path.open('rb') as file:
        file.seek(self.begin)
        data = file.read(self.end - self.begin)
      return np.frombuffer(data, dtype).reshape(self.shape)
    if self.begin == self.end:
      return np.empty(self.shape, dtype)
    return np.memmap(self.path, dtype, 'r', self.begin, self.shape)


def tensors(path: pathlib.Path) -> dict[str, Tensor]:
  """Returns the tensors of a file, by name; none is read.

  Raises:
    UserError: The file is missing, cut short, or no safetensors.
  """
  try:
    size = path.stat().st_size
    with path.open('rb') as file:
      first = file.read(8)
      if first == _LFS[:8]:
        raise errors.UserError(
            f'{path}: holds where git LFS has the file, and not the file; get'
            ' it with `git lfs pull`'
        )
      length = struct.unpack('<Q', first.ljust(8, b'\0'))[0]
      if not 2 <= length <= _LONGEST_HEADER:
        raise errors.UserError(f'{path}: is no safetensors file')
      header = file.read(length)
  except OSError as error:
    raise errors.UserError(f'{path}: {storage.reason(error)}') from error
  if len(header) < length:
    raise _cut(path, size, 8 + length)
  try:
    facts = json.loads(header)
    facts.pop('__metadata__', None)
    found = {
        name: Tensor(
            path,
            fact['dtype'],
            tuple(fact['shape']),
            *(8 + length + offset for offset in fact['data_offsets']),
        )
        for name, fact in facts.items()
    }
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise errors.UserError(f'{path}: is no safetensors file') from error
  for name, tensor in found.items():
    dtype = DTYPES.get(tensor.dtype)
    if dtype is None:
      continue
    if math.prod(tensor.shape) * dtype.itemsize != tensor.end - tensor.begin:
      raise errors.UserError(
          f'{path}: {name}: its shape and its bytes do not agree; download it'
          ' again'
      )
  end = max((tensor.end for tensor in found.values()), default=0)
  if size < end:
    raise _cut(path, size, end)
  return found


def folder(path: pathlib.Path) -> dict[str, Tensor]:
  """Returns the tensors of a checkpoint of one or several files.

  Raises:
    UserError: A file is missing or cut short, or does not hold what the index
      says.
  """
  index = path / INDEX
  if not index.is_file():
    return tensors(path / SINGLE)
  try:
    places = json.loads(index.read_text(encoding='utf-8'))['weight_map']
    names = sorted(set(places.values()))
  except (ValueError, KeyError, AttributeError, TypeError) as error:
    raise errors.UserError(f'{index}: is no index of shards') from error
  missing = [name for name in names if not (path / name).is_file()]
  if missing:
    raise errors.UserError(
        f'{path}: is not complete: of {len(names)} shards {", ".join(missing)}'
        f' {"are" if len(missing) > 1 else "is"} missing; download the rest'
    )
  by_file = {name: tensors(path / name) for name in names}
  lost = [name for name, file in places.items() if name not in by_file[file]]
  if lost:
    raise errors.UserError(
        f'{path / places[lost[0]]}: does not hold {", ".join(lost)}, which'
        f' {INDEX} says that it does'
    )
  return {
      name: tensor
      for found in by_file.values()
      for name, tensor in found.items()
  }


def header(
    shapes: Mapping[str, tuple[tuple[int, ...], np.dtype]],
) -> bytes:
  """Returns the first bytes of a file, which the tensors' follow.

  Args:
    shapes: Shape and dtype of the tensors, in the order of their bytes.
  """
  facts: dict[str, object] = {'__metadata__': {'format': 'pt'}}
  place = 0
  for name, (shape, dtype) in shapes.items():
    end = place + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    facts[name] = {
        'dtype': NAMES[dtype],
        'shape': list(shape),
        'data_offsets': [place, end],
    }
    place = end
  text = json.dumps(facts, separators=(',', ':')).encode()
  # The tensors begin at a multiple of 8, as the format's own writer has it.
  text += b' ' * (-len(text) % 8)
  return struct.pack('<Q', len(text)) + text


def _cut(path: pathlib.Path, size: int, wanted: int) -> errors.UserError:
  return errors.UserError(
      f'{path}: is cut short: it has {size:,} of {wanted:,} bytes; download it'
      ' again'
  )
