"""A declaration's made-up row is read as stored rows are."""

import dataclasses

from flan_jax import errors
from flan_jax.data import catalogue
from flan_jax.data import rows as rows_lib
from flan_jax.data import sample_rows
from flan_jax.data import specs
from flan_jax.data import tasks
import numpy as np
import pytest

_REAL = ('rte', 'bool_q', 'squad_v1', 'dart', 'trec', 'cosmos_qa')


@pytest.mark.parametrize('name', _REAL)
def test_the_same_fields_as_the_row_store_gives(shared, tmp_path, name):
  dataset = catalogue.Catalogue().dataset(name)
  settings = rows_lib.SourceSettings(tfds_data_dir=str(shared / 'tfds'))
  store = rows_lib.RowStore(tmp_path, settings)
  stored = store.open(dataset, 'validation')
  indices = np.arange(40)
  # The store keeps what a function has made of rows, so the rows themselves
  # are those of a dataset without one.
  plain = dataclasses.replace(
      dataset, fields={}, field_names=(), choices=None, references='', keep=''
  )
  raw = store.open(plain, 'validation').take(indices)
  expected = stored.fields(indices)
  found = sample_rows.SampleRows(dataset, raw).fields(indices)
  for ours, theirs in zip(found, expected, strict=True):
    for field in dataset.field_names:
      assert ours[field] == theirs[field]
    if dataset.choices:
      assert ours[dataset.choices.label] == theirs[dataset.choices.label]


def _dataset(**values) -> specs.Dataset:
  base = specs.Dataset(
      name='toy',
      cluster='toys',
      source=specs.Source(kind='jsonl', where='rows.jsonl'),
      splits={'train': 'train'},
      fields={'text': 'deep.texts.1', 'all': 'deep.texts'},
      choices=specs.Choices(label='label', names=('no', 'yes')),
      metrics=('accuracy',),
      templates=(
          specs.Template(
              name='one', inputs='{text} {options}', targets='{answer}'
          ),
          specs.Template(
              name='two', inputs='{answer}?', targets='{text}', inverted=True
          ),
      ),
      sample={'deep': {'texts': ['a', 'b']}, 'label': 1},
  )
  return dataclasses.replace(base, **values)


def test_a_row_under_each_template():
  found = sample_rows.examples(tasks.create(_dataset()))
  assert [e.template for e in found] == ['one', 'two']
  assert [e.inputs for e in found] == ['b OPTIONS:\n- no\n- yes', 'yes?']
  assert [e.targets for e in found] == ['yes', 'b']
  assert {e.row_id for e in found} == {'sample:0'}


def test_settings_hold_and_shots_are_left_out():
  setting = tasks.Setting(num_templates=1, shots=2, options='hidden')
  (found,) = sample_rows.examples(tasks.create(_dataset(), setting))
  assert (found.inputs, found.targets) == ('b', 'yes')


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'sample': {}}, "'toy' declares no made-up row"),
        ({'sample': {'label': 1}}, "there is no 'deep'"),
        (
            {'fields': 'flan_jax.data.fields.sentiment:imdb_reviews'},
            "KeyError: 'text'",
        ),
    ],
)
def test_a_row_that_does_not_fit(values, message):
  with pytest.raises(errors.UserError, match=message):
    sample_rows.examples(tasks.create(_dataset(**values)))
