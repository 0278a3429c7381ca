"""Super-NaturalInstructions task files, also as they occur in the wild."""

import json

from flan_jax import errors
from flan_jax.data import rows as rows_lib
from flan_jax.data import specs
from flan_jax.data.sources import base
from flan_jax.data.sources import sni
import pytest


def _dataset(path, splits=None):
  return specs.Dataset(
      name='toy',
      cluster='misc',
      source=specs.Source(kind='sni', where=str(path)),
      splits=splits or {'train': 'all'},
      fields={'input': 'input', 'first': 'output.0'},
      references='output',
      metrics=('rouge',),
      templates=(),
  )


def _read(path, on_error='raise'):
  source = sni.Sni(_dataset(path), base.SourceSettings())
  skipped = base.Skipped(on_error)
  return [row for _, row in source.read('all', skipped)], skipped


def _files(shared):
  data = shared / 'data/sni'
  return sorted(data.glob('tasks*/*.json'))


def test_every_real_file_is_read(shared):
  files = _files(shared)
  assert len(files) == 66
  for path in files:
    raw = json.loads(path.read_text())['Instances']
    rows, _ = _read(path)
    assert len(rows) == len(raw)
    assert len({row['id'] for row in rows}) == len(rows)
    for row, instance in zip(rows, raw, strict=True):
      outputs = instance['output']
      outputs = outputs if isinstance(outputs, list) else [outputs]
      assert row['input'] == instance['input']
      assert row['output'] == [str(output) for output in outputs]
      assert row['definition'] and row['definition'] == rows[0]['definition']


def test_what_a_task_says_of_itself(shared):
  tasks = shared / 'data/sni'
  task = sni.read_task(
      tasks / 'tasks/task1344_glue_entailment_classification.json'
  )
  assert task.name == 'task1344_glue_entailment_classification'
  assert task.categories == ('Textual Entailment',)
  assert task.output_languages == ('English',)
  assert task.positive_examples and len(task.instances) == 21
  odd = sni.read_task(
      tasks / 'tasks_variant_format/task363_sst2_polarity_classification.json'
  )
  assert odd.categories == ('Basic Sentiment Analysis',)
  bare = sni.read_task(tasks / 'tasks_variant_format/task1761_svamp.json')
  assert bare.domains == bare.licences == ()


@pytest.mark.parametrize('count', [*range(1, 60), 249, 250, 499, 500, 6500])
def test_splits_divide_the_instances(count):
  slices = sni.split_slices(count)
  everything = list(range(count))
  found = {}
  for name, text in slices.items():
    assert text.startswith('all')
    bounds = text.removeprefix('all').strip('[]').split(':')
    start, stop = [int(b) if b else None for b in (*bounds, '')[:2]]
    found[name] = everything[start:stop]
  together = sum(
      (found.get(n, []) for n in ('test', 'validation', 'train')), []
  )
  assert together == everything
  assert all(found.values()) and len(found) == min(count, 3)
  assert count < 10 or len(found['train']) >= count / 2
  if count >= 250:
    assert found['test'] == list(range(100))
  if count >= 500:
    assert found['validation'] == list(range(100, 150))


def test_splits_through_the_store(shared, cache):
  path = shared / 'data/sni/tasks/task1572_samsum_summary.json'
  raw = json.loads(path.read_text())['Instances']
  assert len(raw) == 180
  dataset = _dataset(path, sni.split_slices(len(raw)))
  store = rows_lib.RowStore(cache)
  counts = {
      name: split.rows for name, split in store.prepare(dataset).splits.items()
  }
  assert counts == {'test': 72, 'validation': 18, 'train': 90}
  first = store.open(dataset, 'train')
  assert first.row_ids([0]) == ['all:90']
  assert first.fields([0]) == [{
      'input': raw[90]['input'],
      'first': raw[90]['output'][0],
      'output': raw[90]['output'],
  }]


def _write(path, **changes):
  task = {
      'Definition': ['Do it. '],
      'Instances': [{'input': 'a', 'output': ['b']}],
      **changes,
  }
  path.write_text(json.dumps(task))
  return path


def test_odd_values(tmp_path):
  nan = float('nan')
  path = _write(
      tmp_path / 'task7_odd.json',
      Definition='Text.',
      Categories=nan,
      Instances=[
          {'input': 'a', 'output': 51},
          {'input': 2, 'output': [1.5, 'x'], 'id': 7},
          {'input': ['p', 'q'], 'output': '', 'id': 'own'},
      ],
  )
  assert sni.read_task(path).categories == ()
  definition = {'definition': 'Text.'}
  assert _read(path)[0] == [
      {'id': 'task7_odd-0', 'input': 'a', 'output': ['51']} | definition,
      {'id': 'task7_odd-1', 'input': '2', 'output': ['1.5', 'x']} | definition,
      {'id': 'own', 'input': 'p', 'output': ['']} | definition,
  ]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'Definition': []}, "no 'Definition'"),
        ({'Definition': ' '}, "no 'Definition'"),
        ({'Instances': {}}, "no list 'Instances'"),
        ({'Instances': [{'input': 'a'}]}, r"Instances\[0\]: there is no 'outp"),
        ({'Instances': [{'input': None, 'output': 'b'}]}, "no 'input'"),
        ({'Instances': ['a']}, r'Instances\[0\]: not an object'),
    ],
)
def test_what_is_missing_is_named(tmp_path, changes, message):
  path = _write(tmp_path / 'task1.json', **changes)
  with pytest.raises(errors.UserError, match=message) as caught:
    _read(path)
  assert str(path) in str(caught.value)


def test_a_broken_instance_can_be_skipped(tmp_path):
  good = {'input': 'a', 'output': ['b']}
  path = _write(tmp_path / 'task1.json', Instances=[good, {}, good])
  rows, skipped = _read(path, 'skip')
  assert len(rows) == 2 and skipped.count == 1


def test_what_is_no_task_file(tmp_path):
  (tmp_path / 'a.json').write_text('{"Definition": ')
  with pytest.raises(errors.UserError, match=r'a\.json: not valid JSON'):
    _read(tmp_path / 'a.json')
  with pytest.raises(errors.UserError, match='is not there'):
    _read(tmp_path / 'b.json')
  source = sni.Sni(_dataset(tmp_path / 'a.json'), base.SourceSettings())
  assert 'Splits there: all, train' in str(source.unknown('test'))
