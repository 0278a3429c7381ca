"""Writes adapters as PEFT keeps them: a folder with two files.

    adapter_config.json         rank, alpha, which modules
    adapter_model.safetensors   A [rank, in] and B [out, rank] of each of them

`peft.PeftModel.from_pretrained(model, folder)` puts them on the base, as
`transformers` has it; the tables that models are read by say which module is
which.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import json
import pathlib
from typing import Any

from flan_jax import errors
from flan_jax import partitioning
from flan_jax import storage
from flan_jax.checkpoints import adapted
from flan_jax.checkpoints import bases
from flan_jax.checkpoints import formats
from flan_jax.checkpoints import layout
from flan_jax.checkpoints import places
from flan_jax.checkpoints.huggingface import architectures
from flan_jax.checkpoints.huggingface import mapping
from flan_jax.checkpoints.huggingface import reading
from flan_jax.checkpoints.huggingface import safetensors
from flan_jax.models import config as model_config
from flan_jax.models import interface
import jax
import numpy as np

CONFIG = 'adapter_config.json'
WEIGHTS = 'adapter_model.safetensors'
_PREFIX = 'base_model.model.'


@dataclasses.dataclass(frozen=True)
class _Module:
  """A module of theirs that gets an adapter.

  Attributes:
    a: [rank, in].
    b: [out, rank].
    parts: How many kernels of ours it is made of, with an adapter each.
  """

  a: np.ndarray
  b: np.ndarray
  parts: int


def write(place: places.Place, path: pathlib.Path) -> int:
  """Writes the adapters of a run's checkpoint.

  Args:
    place: The checkpoint.
    path: The folder to make; it is not there.

  Returns:
    How many parameters they have.

  Raises:
    UserError: The checkpoint holds something else than adapters, or its model
      is none that `transformers` has.
  """
  adapter = bases.Adapter.of_run(place.run, place.directory)
  if adapter is None or adapter.lora is None:
    raise errors.UserError(
        f'{place.folder}: holds no adapters (LORA) to write for PEFT'
    )
  if adapter.trained is not None:
    raise errors.UserError(
        f'{place.folder}: holds other parameters beside adapters (TRAINED),'
        ' and what PEFT reads has adapters alone; write the whole model'
        ' instead: --to huggingface'
    )
  config = place.config()
  split = adapted.split_of(interface.create(config), adapter)
  mesh = partitioning.make_mesh(
      partitioning.MeshConfig(data=1), jax.local_devices()[:1]
  )
  trained = adapted.read(place.folder, split, mesh, use_ema=False)
  found = files(adapter, config, jax.device_get(layout.flatten(trained)))
  storage.make_folder(path)
  for name, content in found.items():
    storage.write(path / name, content)
  return sum(leaf.size for leaf in jax.tree.leaves(trained))


def files(
    adapter: bases.Adapter,
    config: model_config.ModelConfig,
    flat: Mapping[str, np.ndarray],
) -> dict[str, bytes]:
  """Returns the contents of the files by their names.

  Args:
    adapter: What the run says.
    config: The model, without adapters.
    flat: Adapters under T5X's names, one entry a layer.

  Raises:
    UserError: The model is none that `transformers` has.
  """
  entries = _architecture(adapter.base, config).names(config)
  modules = _modules(entries, flat)
  facts = _config(adapter, config, modules, entries)
  return {
      WEIGHTS: _file(modules),
      CONFIG: f'{json.dumps(facts, indent=2)}\n'.encode(),
  }


def _architecture(
    base: bases.Base, config: model_config.ModelConfig
) -> mapping.Architecture:
  """Returns the architecture whose names the base has, or may have."""
  folder = storage.path(base.path)
  if formats.find(folder) == formats.HUGGINGFACE:
    return architectures.ALL[reading.Checkpoint(folder).architecture]
  for architecture in architectures.ALL.values():
    if architecture.fits(config):
      return architecture
  raise errors.UserError(
      f'{base.path}: no architecture of transformers is such a model'
  )


def _modules(
    entries: Iterable[mapping.Entry], flat: Mapping[str, np.ndarray]
) -> dict[str, _Module]:
  """Returns the modules with adapters, by their names.

  Where a tensor of theirs holds several kernels of ours side by side, the
  ranks of their adapters are put beside each other, too: B then has rows of 0
  for all but its own kernel's ranks.
  """
  groups: dict[str, list[mapping.Entry]] = {}
  for entry in entries:
    groups.setdefault(entry.theirs, []).append(entry)
  found = {}
  for theirs, group in groups.items():
    pairs = []
    for entry in group:
      module = entry.ours.removesuffix('/kernel')
      if f'{module}/lora_a' in flat:
        a, b = flat[f'{module}/lora_a'], flat[f'{module}/lora_b']
        pairs.append((entry, a.T, b.T))
    if not pairs:
      continue
    rows = max(e.part[2] if e.part else 0 for e in group) or len(pairs[0][2])
    blocks = [_rows(entry, b, rows) for entry, _, b in pairs]
    found[theirs.removesuffix('.weight')] = _Module(
        np.concatenate([a for _, a, _ in pairs]),
        np.concatenate(blocks, axis=1),
        len(pairs),
    )
  return found


def _rows(entry: mapping.Entry, b: np.ndarray, rows: int) -> np.ndarray:
  """Returns B [rows, rank] of a whole tensor, from that of its part."""
  if entry.part is None:
    return b
  axis, begin, end = entry.part
  if axis != (0 if entry.transpose else 1):
    raise errors.UserError(
        f'{entry.theirs}: holds kernels one above the other, and an adapter'
        ' cannot be of one of them alone; write the whole model instead: --to'
        ' huggingface'
    )
  whole = np.zeros((rows, b.shape[1]), b.dtype)
  whole[begin:end] = b
  return whole


def _config(
    adapter: bases.Adapter,
    config: model_config.ModelConfig,
    modules: Mapping[str, _Module],
    entries: Iterable[mapping.Entry],
) -> dict[str, Any]:
  """Returns what adapter_config.json says."""
  lora = adapter.lora
  assert lora is not None
  alpha = int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha
  several = {name: m.parts for name, m in modules.items() if m.parts > 1}
  kernels = [e for e in entries if e.ours.endswith('/kernel')]
  decoder = isinstance(config, model_config.DecoderConfig)
  base = storage.path(adapter.base.path)
  known = formats.find(base) == formats.HUGGINGFACE
  return {
      'peft_type': 'LORA',
      'task_type': 'CAUSAL_LM' if decoder else 'SEQ_2_SEQ_LM',
      'base_model_name_or_path': str(base) if known else None,
      'inference_mode': True,
      'r': lora.rank,
      'lora_alpha': alpha,
      'lora_dropout': lora.dropout_rate,
      'target_modules': _targets(set(modules), kernels),
      'rank_pattern': {n: lora.rank * parts for n, parts in several.items()},
      'alpha_pattern': {n: alpha * parts for n, parts in several.items()},
      'bias': 'none',
      # Whether kernels are [in, out], as those of GPT-2 are.
      'fan_in_fan_out': not all(
          e.transpose
          for e in kernels
          if e.theirs.removesuffix('.weight') in modules
      ),
  }


def _targets(modules: set[str], kernels: Iterable[mapping.Entry]) -> list[str]:
  """Returns names that match these modules and no other kernels'.

  The last parts of their names where these do; else the whole names.
  """
  last = {name.rsplit('.', 1)[-1] for name in modules}
  meant = {
      name
      for name in (e.theirs.removesuffix('.weight') for e in kernels)
      if name.rsplit('.', 1)[-1] in last
  }
  return sorted(last if meant == modules else modules)


def _file(modules: Mapping[str, _Module]) -> bytes:
  """Returns a safetensors file of all modules' A and B."""
  tensors = {
      f'{_PREFIX}{name}.lora_{letter}.weight': array
      for name, module in sorted(modules.items())
      for letter, array in (('A', module.a), ('B', module.b))
  }
  shapes = {
      name: (array.shape, np.dtype('<f4')) for name, array in tensors.items()
  }
  data = [array.astype('<f4').tobytes() for array in tensors.values()]
  return b''.join([safetensors.header(shapes), *data])
