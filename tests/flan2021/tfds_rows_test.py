"""Every FLAN 2021 dataset on rows that TFDS's own builder has written.

Nothing is downloaded: the builder's features say what a row is, and the rows
are the declaration's made-up one with its words exchanged and its label drawn.
So a declaration that wants a field, a config or a split that TFDS does not have
fails here, and so does a made-up row that TFDS would not write.
"""

import dataclasses
import os
import random
import re
from typing import Any
from unittest import mock

from flan_jax.data import catalogue
from flan_jax.data import checks
from flan_jax.data import rows as rows_lib
from flan_jax.data import specs
from flan_jax.data import tasks
from flan_jax.data import templates
import numpy as np
import pytest

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
tfds = pytest.importorskip('tensorflow_datasets')

_ROWS = 24
_DATASETS = {
    name: catalogue.Catalogue().dataset(name)
    for name in catalogue.Catalogue().select(collection='flan2021')
}
# Words that a builder's rows take from a short list of their own.
_FIXED = {'cause', 'effect', 'unanswerable', 'cannotanswer', 'placeholder'}
_FIXED |= {'highlight', 'none'}
_WORD = re.compile(r'[A-Za-z]{4,}')
_SPLIT = re.compile(r'[A-Za-z_]\w*')
_VOWELS = 'aeiou'


def _sources() -> list[Any]:
  """Each dataset under each of its TFDS sources."""
  found = []
  for name, dataset in _DATASETS.items():
    sources = [(dataset.source, '', {})]
    sources += [(o.source, o.fields, o.splits) for o in dataset.alternatives]
    for place, (source, fields, splits) in enumerate(sources):
      if source.kind == 'tfds' and _in_registry(source):
        changed = dataclasses.replace(
            dataset,
            source=source,
            fields=fields or dataset.fields,
            splits={**dataset.splits, **splits},
            alternatives=(),
        )
        label = f'{name}-{place}' if place else name
        found.append(pytest.param(changed, place > 0, id=label))
  return found


def _in_registry(source: specs.Source) -> bool:
  """Whether TFDS knows the name; a custom config's folder it does not."""
  return 'no_' not in source.where.partition('/')[2]


def _pseudo_word(word: str, number: int) -> str:
  """Another word of the same length and capitals, the same for the same."""
  rng = random.Random(f'{word.lower()} {number}')
  letters = []
  for letter in word:
    near = _VOWELS if letter.lower() in _VOWELS else 'bcdfghjklmnprstvw'
    chosen = rng.choice(near)
    letters.append(chosen.upper() if letter.isupper() else chosen)
  return ''.join(letters)


def _exchange(text: str, number: int) -> str:
  def other(match: re.Match[str]) -> str:
    word = match[0]
    return word if word.lower() in _FIXED else _pseudo_word(word, number)

  return _WORD.sub(other, text) if number else text


def _value(feature: Any, given: Any, number: int) -> Any:
  """A value that fits the feature: the made-up one varied, or an empty one."""
  features = tfds.features
  if isinstance(feature, features.FeaturesDict):
    given = given or {}
    unknown = set(given) - set(feature.keys())
    assert not unknown, f'TFDS has no {sorted(unknown)}, but {list(feature)}'
    return {
        key: _value(inner, given.get(key), number)
        for key, inner in feature.items()
    }
  if isinstance(feature, features.Sequence):
    if given is None:
      return []
    inner = feature.feature
    if isinstance(given, dict):  # A dict of lists is a list of dicts here.
      return {
          key: [_value(inner[key], item, number) for item in items]
          for key, items in given.items()
      }
    return [_value(inner, item, number) for item in given]
  if isinstance(feature, features.ClassLabel):
    assert given is None or int(given) < feature.num_classes
    return (int(given or 0) + number) % feature.num_classes
  if feature.np_dtype in (np.str_, np.object_, object):
    assert given is None or isinstance(given, str), f'{given!r} is no text'
    return _exchange(given or '', number)
  if feature.np_dtype == np.bool_:
    return bool(given) != bool(number % 2)
  return given if given is not None else 0


def _write(builder: Any, dataset: specs.Dataset, splits: list[str]) -> None:
  features = builder.info.features
  rows = [
      _value(features, dict(dataset.sample), number) for number in range(_ROWS)
  ]

  def split_generators(self, *args, **kwargs):
    del self, args, kwargs
    return {name: list(enumerate(rows)) for name in splits}

  with mock.patch.object(type(builder), '_split_generators', split_generators):
    builder.download_and_prepare()


def _source_splits(dataset: specs.Dataset) -> dict[str, list[str]]:
  """Split -> the source's splits that it takes rows of."""
  return {
      split: _SPLIT.findall(re.sub(r'\[.*?\]', '', text))
      for split, text in dataset.splits.items()
  }


def _whole_splits(dataset: specs.Dataset) -> specs.Dataset:
  """The dataset with whole splits of the source: there are few rows."""
  splits = _source_splits(dataset)
  whole = {split: '+'.join(names) for split, names in splits.items()}
  return dataclasses.replace(dataset, splits=whole, limits={})


@pytest.mark.parametrize(('dataset', 'second'), _sources())
def test_rows_of_the_builder(dataset, second, tmp_path):
  assert dataset.sample, f'{dataset.path} has no sample'
  data_dir = tmp_path / 'tfds'
  builder = tfds.builder(dataset.source.where, data_dir=data_dir)
  version = dataset.source.where.rpartition(':')[2]
  assert str(builder.version) == version
  needed = sorted({n for v in _source_splits(dataset).values() for n in v})
  if second:
    return  # Its rows are another shape; that it can be built is enough.
  _write(builder, dataset, needed)
  settings = rows_lib.SourceSettings(tfds_data_dir=str(data_dir))
  store = rows_lib.RowStore(tmp_path / 'cache', settings)
  small = _whole_splits(dataset)
  for split in small.splits:
    reader = store.open(small, split)
    assert 0 < len(reader) <= _ROWS * len(_source_splits(small)[split])
    findings = checks.rows(small, reader, limit=_ROWS)
    assert [str(finding) for finding in findings] == []
    _check_examples(small, reader)


def _check_examples(dataset: specs.Dataset, reader: rows_lib.Rows) -> None:
  indices = np.arange(len(reader))
  for template in dataset.templates:
    for options in (
        ('shown', 'hidden', 'random') if dataset.choices else ('shown',)
    ):
      setting = tasks.Setting(template=template.name, options=options)
      task = tasks.create(dataset, setting)
      renderer = templates.Renderer(task, reader, seed=1)
      for example in renderer.render(indices, np.zeros_like(indices)):
        assert example.inputs.strip() and example.targets.strip()
        for text in (example.inputs, example.targets):
          assert text == text.strip()
          assert '{' not in text and '}' not in text, text
        if dataset.choices and not template.inverted:
          assert example.targets in example.options
          shown = all(
              f'- {option}' in example.inputs for option in example.options
          )
          assert (
              shown or options == 'hidden' or '{options}' not in template.inputs
          )
