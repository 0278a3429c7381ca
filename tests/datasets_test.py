"""The public face: declare in Python, register, read."""

import re

from flan_jax import datasets
from flan_jax import errors
from flan_jax.data import catalogue
import pytest


@pytest.fixture
def parity(monkeypatch, tmp_path):
  """The dataset of the module's own example."""
  monkeypatch.setattr(catalogue, '_REGISTERED', {})
  (tmp_path / 'toy_parity.py').write_text(
      'def parity(split, seed):\n'
      '  for number in range(8 if split == "train" else 3):\n'
      '    yield {"number": str(number), "label": number % 2}\n'
  )
  monkeypatch.syspath_prepend(tmp_path)
  return datasets.Dataset(
      name='parity',
      cluster='arithmetic',
      source=datasets.Source(kind='generated', where='toy_parity:parity'),
      splits={'train': 'train', 'test': 'test'},
      fields={'number': 'number'},
      choices=datasets.Choices(label='label', names=('even', 'odd')),
      metrics=('accuracy',),
      templates=(
          datasets.Template(
              name='ask',
              inputs='Is {number} even or odd?\n\n{options}',
              targets='{answer}',
          ),
      ),
  )


def test_a_registered_dataset_is_loaded_by_name(parity, cache):
  datasets.register(parity)
  first, second, third = datasets.load('parity', 'test')
  assert first.inputs == 'Is 0 even or odd?\n\nOPTIONS:\n- even\n- odd'
  assert [first.targets, second.targets, third.targets] == [
      'even',
      'odd',
      'even',
  ]
  assert second.row_id == 'test:1'
  hidden = datasets.load('parity:no_options', 'test', limit=2)
  assert [example.inputs for example in hidden] == [
      'Is 0 even or odd?',
      'Is 1 even or odd?',
  ]
  # Exemplars are rows of the train split.
  shot = datasets.load('parity:1_shot:no_options', 'test', limit=1)[0]
  assert re.fullmatch(
      r'Is \d even or odd\?\n(even|odd)\n\nIs 0 even or odd\?', shot.inputs
  )


def test_the_example_in_the_docstring_runs(parity, cache, capsys):
  source = datasets.__doc__
  code = source[source.index('  from flan_jax') : source.index('A module that')]
  code = re.sub('^  ', '', code, flags=re.MULTILINE)
  exec(code.replace('my_module', 'toy_parity'), {})
  assert capsys.readouterr().out.count('->') == 3


def test_a_mixture_is_all_its_tasks(cache):
  examples = datasets.load('mini:held_out', 'test', limit=2)
  tasks = [example.task for example in examples]
  assert len(tasks) == 2 * len(set(tasks)) >= 4


def test_real_rows(shared, cache):
  examples = datasets.load(
      'rte:template_0', 'test', limit=5, tfds_data_dir=str(shared / 'tfds')
  )
  assert len(examples) == 5
  for example in examples:
    assert example.options == ('yes', 'no')
    assert example.targets == example.options[example.answer_index]
    assert example.row_id.startswith('validation:')


def test_fit_shot_says_what_it_needs(parity, cache):
  datasets.register(parity)
  with pytest.raises(errors.UserError, match='fit_shot needs a vocabulary'):
    datasets.load('parity:fit_shot', 'test')
