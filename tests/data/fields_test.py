"""Fields of the FLAN datasets whose rows need code, on rows as they are."""

from flan_jax.data import catalogue
from flan_jax.data import rows as rows_lib
from flan_jax.data.fields import common
import numpy as np
import pytest


def test_as_is_leaves_the_row_alone():
  row = {'a': 1}
  found = common.as_is(row)
  found['a'] = 2
  assert row == {'a': 1}


_CHECKS = {
    'bool_q': lambda f: f['label'] in (0, 1) and f['question'][-1] != '?',
    'natural_questions': lambda f: (
        f['question'][-2:-1] != '?'
        and f['question'][-1] == '?'
        and f['answers'][0] == f['answer']
    ),
    'squad_v1': lambda f: (
        '_' not in f['title']
        and all(answer in f['context'] for answer in f['answers'])
    ),
    'imdb_reviews': lambda f: '<br' not in f['text'] and f['label'] in (0, 1),
    'glue_qqp': lambda f: '""' not in f['question1'] + f['question2'],
    'dart': lambda f: (
        '[TABLECONTEXT]' not in f['triples'] + f['triple_lines']
        and f['target'] in f['references']
    ),
    'rte': lambda f: f['label'] in (0, 1),
    'mnli_matched': lambda f: f['label'] in (0, 1, 2),
    'sst2': lambda f: f['label'] in (0, 1),
    'glue_mrpc': lambda f: f['label'] in (0, 1),
    'trec': lambda f: f['label'] in range(6),
    'cosmos_qa': lambda f: (
        f['label'] in range(4) and ' . ' not in f['context'] + f['question']
    ),
}


@pytest.mark.parametrize('name', sorted(_CHECKS))
def test_every_real_row_gives_its_declared_fields(
    shared, tmp_path_factory, name
):
  cache = tmp_path_factory.getbasetemp() / 'flan2021_rows'
  store = rows_lib.RowStore(
      cache, rows_lib.SourceSettings(tfds_data_dir=str(shared / 'tfds'))
  )
  dataset = catalogue.Catalogue().dataset(name)
  for split in dataset.splits:
    rows = store.open(dataset, split)
    for found in rows.fields(np.arange(len(rows))):
      assert _CHECKS[name](found), found
      for field in dataset.field_names:
        assert field == 'label' or found[field], (field, found)
