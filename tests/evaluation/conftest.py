"""A small evaluation without a model: datasets, rows, stand-in systems."""

import dataclasses
import types

from flan_jax.data import specs
from flan_jax.data import tasks
from flan_jax.evaluation import plan
from flan_jax.evaluation import protocol
from flan_jax.evaluation import results as results_lib
from flan_jax.evaluation import scoring
import numpy as np
import pytest


class Rows:
  """Rows in memory, as `rows.Rows` serves them."""

  def __init__(self, dataset, split, rows):
    self.dataset, self.split, self._rows = dataset, split, rows

  def __len__(self):
    return len(self._rows)

  def fields(self, indices):
    return [dict(self._rows[i]) for i in np.asarray(indices)]

  def row_ids(self, indices):
    return [f'{self.split}:{i}' for i in np.asarray(indices)]


class Store:
  """A row store in memory."""

  def __init__(self, rows):
    self._rows = rows

  def open(self, dataset, split):
    return Rows(dataset, split, self._rows[dataset.name][split])


def dataset(name, cluster, *, choices=None, templates=(), metrics, fields):
  return specs.Dataset(
      name=name,
      cluster=cluster,
      collection='small',
      source=specs.Source(kind='generated', where='nowhere:rows'),
      splits={'train': 'train', 'validation': 'dev', 'test': 'test'},
      fields={field: field for field in fields},
      metrics=metrics,
      choices=choices,
      templates=tuple(specs.Template(**t) for t in templates),
  )


def _labelled(count, positive_every):
  return [
      {
          'text': f'row {i} <b>bold</b> & "quoted" </script>',
          'label': str(int(i % positive_every == 0)),
      }
      for i in range(count)
  ]


@pytest.fixture
def small():
  """Three datasets and their rows: trained, trained, held out."""
  mood = dataset(
      'mood',
      'sentiment',
      choices=specs.Choices(label='label', names=('bad', 'good')),
      metrics=('f1', 'accuracy'),
      fields=('text', 'label'),
      templates=(
          {
              'name': 'plain',
              'inputs': '{text} {options}',
              'targets': '{answer}',
          },
          {
              'name': 'wrapped',
              'inputs': '{text}\n{options}',
              'targets': 'It is {answer}.',
              'held_out': True,
          },
          {
              'name': 'backwards',
              'inputs': 'Write a {answer} text.',
              'targets': '{text}',
              'inverted': True,
          },
      ),
  )
  echo = dataset(
      'echo',
      'copying',
      metrics=('exact_match',),
      fields=('text',),
      templates=(
          {'name': 'say', 'inputs': 'Say: {text}', 'targets': '{text}'},
          {'name': 'repeat', 'inputs': 'Repeat {text}', 'targets': '{text}'},
          {
              'name': 'again',
              'inputs': 'Again: {text}',
              'targets': '{text}',
              'held_out': True,
          },
      ),
  )
  pick = dataset(
      'pick',
      'commonsense',
      choices=specs.Choices(label='label', fields=('first', 'second')),
      metrics=('accuracy',),
      fields=('first', 'second', 'label'),
      templates=(
          {
              'name': 'which',
              'inputs': 'Which? {options}',
              'targets': '{answer}',
          },
      ),
  )
  rows = {
      'mood': {'train': _labelled(40, 4), 'test': _labelled(30, 3)},
      'echo': {
          'train': [{'text': 'often'}] * 5 + [{'text': 'once'}],
          'test': [{'text': t} for t in ('often', 'never', 'a  b', 'once')],
      },
      'pick': {
          'train': [
              {'first': 'x', 'second': f'y{i}', 'label': '1'} for i in range(4)
          ],
          'test': [
              {'first': f'p{i}', 'second': f'q{i}', 'label': str(i % 2)}
              for i in range(6)
          ],
      },
  }
  for own in rows.values():
    own['validation'] = own['test'][::2]
  return types.SimpleNamespace(
      datasets={'mood': mood, 'echo': echo, 'pick': pick},
      store=Store(rows),
      tasks=[tasks.create(each) for each in (mood, echo, pick)],
      trained=('mood', 'echo'),
  )


@pytest.fixture
def questions():
  """Candidate answers of questions, three of each, under two templates."""
  declared = dataclasses.replace(
      dataset(
          'which_hold',
          'reading_comprehension',
          choices=specs.Choices(label='label', names=('no', 'yes')),
          metrics=('multirc',),
          fields=('candidate', 'question', 'label'),
          templates=(
              {'name': 'one', 'inputs': '{candidate}', 'targets': '{answer}'},
              {
                  'name': 'two',
                  'inputs': 'Is {candidate}?',
                  'targets': '{answer}',
              },
          ),
      ),
      group_by='question',
  )
  rows = [
      {
          'candidate': f'candidate {i}',
          'question': f'q{i // 3}',
          'label': str(i % 2),
      }
      for i in range(90)
  ]
  return types.SimpleNamespace(
      dataset=declared,
      task=tasks.create(declared),
      store=Store({'which_hold': {'train': rows, 'test': rows}}),
  )


def _ignore(count):
  del count


def answering(right_share):
  """A system that is right on the share of row numbers below it, in tenths."""

  def answer(examples, ranked, progress):
    said = []
    for example in examples:
      right = int(example.row_id.split(':')[1]) % 10 < right_share
      if ranked:
        scores = np.full(len(example.options), -3.0)
        place = example.answer_index
        place = place if right else (place + 1) % len(example.options)
        scores[place] = -1.0
        said.append(
            scoring.Answer(
                example.options[place], place, -1.0, tuple(scores.tolist())
            )
        )
      else:
        text = example.targets if right else '<img src=x onerror=alert(1)>'
        said.append(scoring.Answer(text, None, -2.5))
    progress(len(examples))
    return said

  return answer


# A model and what it started from, of which one row in ten and so on is right.
_TUNED = {
    'kind': 'tuned',
    'checkpoint': 'runs/<small>',
    'step': 1200,
    'untuned': 'untuned',
}
_UNTUNED = {'kind': 'untuned', 'checkpoint': 'runs/<small>', 'step': 0}
ONE_MODEL = {'tuned': (_TUNED, 8), 'untuned': (_UNTUNED, 3)}
# The second one is larger, and has learned from more clusters.
SEVERAL_MODELS = {
    'small': (
        {
            **_TUNED,
            'untuned': 'small untuned',
            'mixture': 'some',
            'training_clusters': ['sentiment'],
            'parameters': 1_100_000,
        },
        6,
    ),
    'large <b>one</b>': (
        {
            **_TUNED,
            'untuned': 'large untuned',
            'mixture': 'many',
            'training_clusters': ['copying', 'sentiment'],
            'parameters': 80_000_000,
        },
        9,
    ),
    'small untuned': (_UNTUNED, 3),
    'large untuned': (_UNTUNED, 2),
}


def _validated(small, planned, rendering, models):
  """Validation rows, and answers of which 'wrapped' and 'repeat' are best."""
  items = plan.of_several_templates(planned)
  rows = dataclasses.replace(rendering, split='validation')
  work = protocol.read(items, small.store, rows, guesses=False)

  def favourite(examples, ranked, progress):
    said = []
    for example in examples:
      good = example.template in ('wrapped', 'repeat')
      said += answering(9 if good else 2)([example], ranked, _ignore)
    progress(len(examples))
    return said

  return work, {
      name: protocol.answer(
          work,
          favourite if facts['kind'] == 'tuned' else answering(right),
          _ignore,
      )
      for name, (facts, right) in models.items()
  }


@pytest.fixture
def evaluated(small):
  """The small evaluation with everything made of it."""
  return evaluate(small)


@pytest.fixture
def evaluated_several(small):
  """Two models, k-shot and a baseline beside zero-shot, and a paper."""
  return evaluate(
      small,
      SEVERAL_MODELS,
      [{
          'dataset': 'pick',
          'metric': 'accuracy',
          'score': 61.5,
          'model': 'Large & Co',
          'paper': 'arXiv 1',
          'table': 'Table 2',
          'template': 'best',
          'quoted_by': 'somebody',
      }],
      shots=(0, 2),
      baselines=('no_template',),
  )


def evaluate(small, models=ONE_MODEL, published=(), **settings):
  """Evaluates the small datasets with stand-ins for models."""
  evaluated_tasks, _ = plan.settings(small.tasks, **settings)
  planned = plan.all_items(evaluated_tasks, small.trained)
  rendering = protocol.Rendering(split='test', limit=20, seed=1)
  work = protocol.read(planned, small.store, rendering)
  answers = {
      name: protocol.answer(work, answering(right), _ignore)
      for name, (_, right) in models.items()
  }
  answers['majority'] = protocol.majority_answers(work)
  answers['random'] = protocol.random_answers(work, rendering.seed)
  validation, validated = _validated(small, planned, rendering, models)
  results = results_lib.assemble(
      protocol.score(
          work,
          answers,
          rendering.seed,
          protocol.validate(validation, validated),
      ),
      systems={
          **{name: facts for name, (facts, _) in models.items()},
          'majority': {'kind': 'majority'},
          'random': {'kind': 'random'},
      },
      mixtures=['small', 'small:held_out'],
      templates='all',
      shots=settings.get('shots', ()),
      best_template=True,
      best_template_examples=20,
      rendering=rendering,
      normalisation='sum',
      published=published,
  )
  return types.SimpleNamespace(
      work=work,
      answers=answers,
      results=results,
      validation=validation,
      validated=validated,
  )
