"""What rows a prepared TFDS folder holds, by its `features.json` alone."""

from collections.abc import Mapping
import json
import pathlib
from typing import Any

from flan_jax.data import row_types


def row_type(folder: pathlib.Path) -> row_types.Type:
  """Returns the type of the rows, a 'struct'.

  'null' stands for what is neither text nor number.

  Raises:
    OSError: There is no such file.
    ValueError: It is not what TFDS writes.
  """
  text = (folder / 'features.json').read_text(encoding='utf-8')
  try:
    kind = _type(json.loads(text))
  except (AttributeError, KeyError, TypeError) as error:
    raise ValueError(f'{folder}/features.json: {error!r}') from error
  if kind[0] != 'struct':
    raise ValueError(f'{folder}/features.json: no rows of named features')
  return kind


def _type(feature: Mapping[str, Any]) -> row_types.Type:
  if 'featuresDict' in feature:
    inner = feature['featuresDict'].get('features', {})
    return ('struct', {name: _type(each) for name, each in inner.items()})
  if 'sequence' in feature:
    return _listed(_type(feature['sequence']['feature']))
  if 'tensor' in feature:
    kind: row_types.Type = _scalar(feature['tensor']['dtype'])
    for _ in feature['tensor'].get('shape', {}).get('dimensions', []):
      kind = ('list', kind)
    return kind
  if 'text' in feature:
    return 'str'
  if 'classLabel' in feature:
    return 'int'
  if 'translation' in feature:
    about = feature['translation']
    if about.get('variableLanguagesPerExample'):
      texts = ('list', 'str')
      return ('struct', {'language': texts, 'translation': texts})
    return ('struct', dict.fromkeys(about['languages'], 'str'))
  return 'null'


def _listed(kind: row_types.Type) -> row_types.Type:
  """A sequence of mappings is read as a mapping of lists."""
  if kind[0] == 'struct':
    return ('struct', {key: _listed(each) for key, each in kind[1].items()})
  return ('list', kind)


def _scalar(dtype: str) -> str:
  if dtype == 'bool':
    return 'bool'
  if 'int' in dtype:
    return 'int'
  if 'float' in dtype:
    return 'float'
  return 'str' if dtype in ('string', 'object') else 'null'
