"""Super-NaturalInstructions task files as datasets."""

import json

from flan_jax import errors
from flan_jax.data import slots
from flan_jax.data import sni_declarations
from flan_jax.data import spec_problems
from flan_jax.data import specs
import pytest


def _write(folder, name, outputs, **kwargs):
  path = folder / f'{name}.json'
  task = {
      'Definition': ['Do as asked.'],
      'Categories': ['Fill in The Blank'],
      'Instances': [
          {'id': f'{name}-{i}', 'input': f'in {i}', 'output': output}
          for i, output in enumerate(outputs)
      ],
      'Instance License': ['MIT', 'CC BY 4.0'],
  }
  path.write_text(json.dumps(task | kwargs))
  return path


def test_a_generation_task(tmp_path):
  outputs = [[f'out {i}', 'another'] for i in range(20)]
  path = _write(tmp_path, 'task12_Some-thing.2', outputs)
  dataset = sni_declarations.load(path)
  assert dataset.name == 'task12_some_thing_2'
  assert (dataset.collection, dataset.path) == ('sni', path)
  assert dataset.cluster == 'fill_in_the_blank'
  assert dataset.licence == 'MIT, CC BY 4.0'
  assert dataset.choices is None
  assert dataset.references == 'outputs'
  assert dataset.row_paths == {
      'definition': 'definition',
      'input': 'input',
      'output': 'output.0',
      'outputs': 'output',
  }
  assert dataset.metrics == ('rouge', 'exact_match')
  assert set(dataset.splits) == {'train', 'validation', 'test'}
  assert list(spec_problems.problems(dataset)) == []


def test_a_classification_task(tmp_path):
  path = _write(tmp_path, 'task1_x', ['yes', ['no']] * 5 + ['yes'])
  dataset = sni_declarations.load(path)
  assert dataset.choices == specs.Choices(label='output.0', names=('no', 'yes'))
  assert dataset.references == ''
  assert list(spec_problems.problems(dataset)) == []


@pytest.mark.parametrize(
    'outputs',
    [
        [['yes'], ['no']] * 4 + [['yes']],  # no only four times.
        [['yes']] * 20,
        [[f'class {i % 11}'] for i in range(110)],
        [['yes'], ['no']] * 10 + [['yes', 'no']],
        [['yes'], [' ']] * 10,
    ],
)
def test_tasks_that_are_no_classification(tmp_path, outputs):
  dataset = sni_declarations.load(_write(tmp_path, 'task1_x', outputs))
  assert dataset.choices is None


def test_each_template_joins_definition_and_input_its_own_way(tmp_path):
  for outputs in ([['a'], ['b']] * 9, [[str(i)] for i in range(18)]):
    dataset = sni_declarations.load(_write(tmp_path, 'task1_x', outputs))
    texts = {template.inputs for template in dataset.templates}
    assert len(texts) == len(dataset.templates) >= 3
    for template in dataset.templates:
      names = slots.names(slots.split(template.inputs))
      assert sorted(set(names) & {'definition', 'input'}) == [
          'definition',
          'input',
      ]
      assert ('options' in names) == (dataset.choices is not None)
      answer = '{answer}' if dataset.choices else '{output}'
      assert template.targets == answer


def test_a_task_without_category_or_licence(tmp_path):
  dataset = sni_declarations.load(
      _write(
          tmp_path,
          'task1_x',
          ['a', 'b'],
          Categories=[],
          **{'Instance License': None},
      )
  )
  assert (dataset.cluster, dataset.licence) == ('uncategorised', '')


def test_broken_files_are_named(tmp_path):
  path = tmp_path / 'task1_x.json'
  path.write_text('{"Instances": [\n}')
  with pytest.raises(
      errors.UserError, match='task1_x.json: not valid JSON .*line 2'
  ):
    sni_declarations.load(path)
  path.write_text('{}')
  with pytest.raises(errors.UserError, match="task1_x.json: .*'Instances'"):
    sni_declarations.load(path)


def test_task_files_are_told_by_their_names(tmp_path):
  assert sni_declarations.is_task_file(tmp_path / 'task012_x.json')
  assert not sni_declarations.is_task_file(tmp_path / 'labels.json')
  assert not sni_declarations.is_task_file(tmp_path / 'task012_x.yaml')


@pytest.mark.parametrize('folder', ['tasks', 'tasks_variant_format'])
def test_every_real_file_becomes_a_dataset(shared, folder):
  clusters = set()
  for path in sorted((shared / 'data' / 'sni' / folder).glob('task*.json')):
    dataset = sni_declarations.load(path)
    assert list(spec_problems.problems(dataset)) == []
    clusters.add(dataset.cluster)
  if folder == 'tasks':
    # SOURCE.md counts 16 categories.
    assert len(clusters) == 16


@pytest.mark.parametrize(
    ('task', 'classes'),
    [
        ('task363_sst2_polarity_classification', ('NEG', 'POS')),
        ('task1344_glue_entailment_classification', ('0', '1')),
        ('task073_commonsenseqa_answer_generation', tuple('ABCDE')),
        ('task672_nummersense', None),
        ('task002_quoref_answer_generation', None),
    ],
)
def test_real_tasks_are_classified(shared, task, classes):
  path = shared / 'data' / 'sni' / 'tasks' / f'{task}.json'
  choices = sni_declarations.load(path).choices
  assert (choices.names if choices else None) == classes
