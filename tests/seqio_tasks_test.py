"""Our tasks as SeqIO's: the same examples, rates and scores."""

import functools
import itertools
import json
import pathlib

from flan_jax import errors
from flan_jax import vocabularies
from flan_jax.data import catalogue
from flan_jax.data import mixtures
from flan_jax.data import pipeline
from flan_jax.data import rows
from flan_jax.data import seqio_bridge
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest

seqio = pytest.importorskip('seqio')

from flan_jax import seqio_tasks  # noqa: E402

_LENGTHS = {'inputs': 40, 'targets': 12}

_COLOURS = """\
version: 1
cluster: misc
source: {jsonl: colours.jsonl}
splits: {train: "train[:-2]", test: "train[-2:]"}
fields: {thing: thing, colour: colour}
choices: {label: colour, names: [red, green]}
metrics: [accuracy]
templates:
- name: ask
  inputs: |-
    Which colour has {thing}?

    {options}
  targets: "{answer}"
- name: short
  inputs: "{thing}? {options}"
  targets: "{answer}"
- name: write_one
  inverted: true
  inputs: Name a {colour} thing, of any size, that is not too hard to find.
  targets: "{thing}, which is a {colour} thing"
"""

_PLURALS = """\
version: 1
cluster: misc
source: {jsonl: plurals.jsonl}
splits: {train: train, test: train}
fields: {one: one, many: many}
metrics: [exact_match, rouge]
templates:
- name: ask
  inputs: The plural of {one} is
  targets: "{many}"
"""

_HOLDS = """\
version: 1
cluster: reading_comprehension
source: {jsonl: holds.jsonl}
splits: {test: train}
fields: {candidate: candidate, question: question, label: label}
choices: {label: label, names: ["no", "yes"]}
group_by: question
metrics: [multirc]
templates:
- name: ask
  inputs: "{question} Is it {candidate}? {options}"
  targets: "{answer}"
- name: short
  inputs: "{question} {candidate}? {options}"
  targets: "{answer}"
"""

_SCALE = """\
version: 1
cluster: paraphrase
source: {jsonl: scale.jsonl}
splits: {test: train}
fields: {one: one, score: score}
choices: {label: score, names: ["0", "1", "2", "3"]}
metrics: [pearson, spearman, bleu, edit_distance, record]
templates:
- name: ask
  inputs: "How like is {one}?"
  targets: "{answer}"
"""


@pytest.fixture(scope='module')
def declared(tmp_path_factory):
  """Datasets of JSON Lines, and mixtures of two of them."""
  folder = tmp_path_factory.mktemp('declared')
  (folder / 'colours.yaml').write_text(_COLOURS)
  (folder / 'plurals.yaml').write_text(_PLURALS)
  (folder / 'holds.yaml').write_text(_HOLDS)
  (folder / 'scale.yaml').write_text(_SCALE)
  (folder / 'both.yaml').write_text(
      'version: 1\nmembers: [{name: colours, weight: 2},'
      ' plurals]\nmax_rate: 7\n'
  )
  (folder / 'few.yaml').write_text(
      'version: 1\nmembers: [colours, plurals]\ncap: 5\n'
  )
  (folder / 'inner.yaml').write_text(
      'version: 1\nmembers: [colours, plurals]\nmax_rate: 7\nrates:'
      ' {temperature: 3}\n'
  )
  (folder / 'outer.yaml').write_text(
      'version: 1\nmembers: [{name: inner, weight: 4}, {name:'
      ' "colours:no_options", weight: 0.5}]\nrates: explicit\n'
  )
  (folder / 'whole.yaml').write_text(
      'version: 1\nmembers: [colours, plurals]\nmax_rate: 7\nleave_out: {}\n'
  )
  colours = [
      {'thing': f'thing {i} ▁ {"é" * i}', 'colour': ('red', 'green')[i % 2]}
      for i in range(12)
  ]
  plurals = [{'one': w, 'many': f'{w}s'} for w in 'bcdfg']
  holds = [
      {'candidate': f'c{i}', 'question': f'q{i // 3}', 'label': str(i % 2)}
      for i in range(6)
  ]
  scale = [{'one': f'x{i}', 'score': str(i)} for i in range(4)]
  for name, lines in (
      ('colours', colours),
      ('plurals', plurals),
      ('holds', holds),
      ('scale', scale),
  ):
    (folder / f'{name}.jsonl').write_text(
        ''.join(json.dumps(line) + '\n' for line in lines)
    )
  return folder


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  """A small lossless SentencePiece model."""
  path = tmp_path_factory.mktemp('vocabulary') / 'small.model'
  texts = pathlib.Path(__file__).read_text().splitlines()
  vocabularies.train_sentencepiece(texts, 400, path)
  return str(path)


@pytest.fixture(scope='module')
def ours(declared, tmp_path_factory):
  """What our own commands would read: catalogue and store."""
  cache = tmp_path_factory.mktemp('cache')
  return catalogue.Catalogue([declared]), rows.RowStore(cache), cache


@pytest.fixture
def configured(declared, model, ours):
  seqio_tasks.configure(
      vocabulary=model, mixtures=[str(declared)], cache_dir=str(ours[2])
  )
  yield
  seqio_tasks.configure()


def _seqio_pairs(name, split, **kwargs):
  dataset = seqio.get_mixture_or_task(name).get_dataset(
      _LENGTHS, split, **kwargs
  )
  return [
      (tuple(features['inputs'].tolist()), tuple(features['targets'].tolist()))
      for features in dataset.as_numpy_iterator()
  ]


def _own_pairs(batches):
  pairs = []
  for batch in batches:
    for inputs, targets in zip(
        batch['encoder_input_tokens'],
        batch['decoder_target_tokens'],
        strict=True,
    ):
      if inputs.any():
        pairs.append((
            tuple(inputs[inputs > 0].tolist()),
            tuple(targets[targets > 0].tolist()),
        ))
  return pairs


def _evaluated(task, split, vocabulary, store):
  """All of a split, in order, from our own pipeline."""
  config = pipeline.PipelineConfig(lengths=_LENGTHS, batch_size=8, pack=False)
  return _own_pairs(
      pipeline.evaluation_batches(task, split, vocabulary, store, config, 1000)
  )


def _trained(mixture, vocabulary, store, count):
  """The first examples of our own training pipeline, in order."""
  config = pipeline.PipelineConfig(
      lengths=_LENGTHS, batch_size=1, pack=False, streams=1, block=1
  )
  found = pipeline.TrainPipeline(mixture, 'train', vocabulary, store, config)
  pairs = _own_pairs(itertools.islice(found, count))
  found.close()
  return pairs


@pytest.mark.parametrize(
    'name',
    ['colours', 'colours:template_ask:random_options', 'plurals:no_template'],
)
@pytest.mark.parametrize('split', ['train', 'test'])
def test_jsonl_examples_are_equal(configured, ours, model, name, split):
  declared, store, _ = ours
  found = _seqio_pairs(name, split, shuffle=False)
  vocabulary = vocabularies.load(model)
  task = mixtures.resolve(declared, name)
  assert found == _evaluated(task, split, vocabulary, store)
  assert len(found) == len(store.open(task.dataset, split))


def test_tfds_examples_are_equal(shared, model, tmp_path):
  folder = str(shared / 'tfds')
  seqio_tasks.configure(
      vocabulary=model, cache_dir=str(tmp_path), tfds_data_dir=folder
  )
  found = _seqio_pairs('rte', 'validation', shuffle=False)
  store = rows.RowStore(tmp_path, rows.SourceSettings(tfds_data_dir=folder))
  task = mixtures.resolve(catalogue.Catalogue(), 'rte')
  expected = _evaluated(task, 'validation', vocabularies.load(model), store)
  assert len(found) == 200
  assert set(found) == set(expected)
  assert found == expected


@pytest.mark.parametrize('name', ['colours', 'colours:2_shot'])
def test_epochs_are_those_of_training(configured, ours, model, name):
  """Order, templates and exemplars of each epoch."""
  declared, store, _ = ours
  found = _seqio_pairs(name, 'train', shuffle=True, num_epochs=3)
  task = mixtures.resolve(declared, name)
  assert found == _trained(task, vocabularies.load(model), store, 30)
  assert found[:10] != found[10:20], 'an epoch repeats the one before'


def test_an_endless_dataset_goes_on(configured):
  dataset = seqio.get_mixture_or_task('plurals').get_dataset(
      None, 'train', num_epochs=None
  )
  assert len(list(dataset.take(23))) == 23


def test_a_dataset_is_the_same_each_time_it_is_read(configured):
  dataset = seqio.get_mixture_or_task('colours').get_dataset(
      _LENGTHS, 'train', shuffle=True, seed=5
  )
  first, second = (
      [features['inputs'].tolist() for features in dataset.as_numpy_iterator()]
      for _ in range(2)
  )
  assert first == second


def test_shards_share_the_examples_out(configured):
  whole = _seqio_pairs('colours', 'train', shuffle=True)
  parts = [
      _seqio_pairs(
          'colours', 'train', shuffle=True, shard_info=seqio.ShardInfo(i, 3)
      )
      for i in range(3)
  ]
  assert [len(part) for part in parts] == [4, 3, 3]
  assert sorted(sum(parts, [])) == sorted(whole)


def test_members_and_rates_of_a_mixture_are_ours(configured, ours):
  declared, store, _ = ours
  found = seqio.get_mixture_or_task('both')
  assert isinstance(found, seqio.Mixture)
  expected = mixtures.resolve(declared, 'both')
  sizes = [
      len(store.open(task.dataset, 'train')) for task, _ in expected.members
  ]
  rates = mixtures.rates(expected, sizes)
  assert {task.name: found.get_rate(task) for task in found.tasks} == dict(
      zip([task.name for task, _ in expected.members], rates, strict=True)
  )
  assert {task.name: found.get_rate(task) for task in found.tasks} == {
      'colours': 14,  # Twice 7 of 10 examples.
      'plurals': 5,
  }


def test_a_mixture_within_a_mixture_has_seqios_rates(configured):
  found = seqio.get_mixture_or_task('outer')
  tasks = {task.name: task for task in found.tasks}
  # The same, declared as SeqIO's own nested mixture.
  inner = seqio.Mixture(
      'inner_by_seqio',
      [tasks['colours'], tasks['plurals']],
      functools.partial(
          seqio.mixing_rate_num_examples, maximum=7, temperature=3.0
      ),
  )
  outer = seqio.Mixture(
      'outer_by_seqio', [(inner, 4.0), (tasks['colours:no_options'], 0.5)]
  )
  assert {name: found.get_rate(task) for name, task in tasks.items()} == {
      name: pytest.approx(outer.get_rate(task)) for name, task in tasks.items()
  }
  # 7 and 5 examples count, the third root of each.
  assert found.get_rate(tasks['colours']) == pytest.approx(
      4 * 7 ** (1 / 3) / (7 ** (1 / 3) + 5 ** (1 / 3))
  )


def test_leave_outs_are_found_by_name(configured):
  assert 'whole_no_plurals' not in list(seqio.MixtureRegistry.names())
  found = seqio.get_mixture_or_task('whole_no_plurals:no_options')
  assert {t.name: found.get_rate(t) for t in found.tasks} == {
      'colours:no_options': 7
  }
  held_out = seqio.get_mixture_or_task('whole_no_plurals:held_out')
  assert [task.name for task in held_out.tasks] == ['plurals']
  assert 'whole_no_nothing' not in seqio.MixtureRegistry.names()
  # Those of FLAN 2021, which need no data to be looked up.
  found = seqio.get_mixture_or_task('flan2021_no_translation')
  assert len(found.tasks) == 61


def test_a_member_has_the_mixtures_examples(configured, ours, model):
  """Under the cap too, which takes a sample of colours."""
  declared, store, _ = ours
  mixture = mixtures.resolve(declared, 'few')
  colours = mixture.members[0][0]
  alone = mixtures.Mixture('few', ((colours, 1.0),), cap=5)
  expected = _trained(alone, vocabularies.load(model), store, 5)
  found = seqio.get_mixture_or_task('few')
  (member,) = (task for task in found.tasks if task.name == 'colours')
  assert member.num_input_examples('train') == 5
  pairs = [
      (tuple(features['inputs'].tolist()), tuple(features['targets'].tolist()))
      for features in member.get_dataset(
          _LENGTHS, 'train', shuffle=True
      ).as_numpy_iterator()
  ]
  assert pairs == expected
  both = set(_seqio_pairs('colours', 'train', shuffle=False, num_epochs=9))
  both |= set(_seqio_pairs('plurals', 'train', shuffle=False))
  mixed = _seqio_pairs('few', 'train', shuffle=True, num_epochs=2)
  assert set(mixed) <= both


def test_the_embedded_mixture(tmp_path):
  seqio_tasks.configure(vocabulary='bytes', cache_dir=str(tmp_path))
  found = seqio.get_mixture_or_task('mini')
  expected = mixtures.resolve(catalogue.Catalogue(), 'mini')
  assert {task.name for task in found.tasks} == {
      task.name for task, _ in expected.members
  }
  dataset = seqio.get_dataset(
      'mini',
      {'inputs': 128, 'targets': 32},
      seqio.EncDecFeatureConverter(pack=True),
      'train',
      shuffle=True,
      num_epochs=None,
  )
  (batch,) = dataset.batch(4).take(1).as_numpy_iterator()
  assert batch['encoder_input_tokens'].shape == (4, 128)
  assert batch['decoder_loss_weights'].sum() > 0


def _evaluate(name, predict):
  """Runs SeqIO's evaluator on a task; `predict` makes text of an example."""
  evaluator = seqio.Evaluator(
      name,
      seqio.EncDecFeatureConverter(pack=False),
      eval_split='test',
  )
  (task,) = evaluator.eval_tasks
  vocabulary = task.output_features['targets'].vocabulary
  examples = evaluator.cached_task_datasets[name].as_numpy_iterator()
  texts = [predict(seqio_bridge.example_of(example)) for example in examples]
  written = [[*vocabulary.encode(text), 1] for text in texts]
  longest = max(map(len, written))
  padded = [ids + [0] * (longest - len(ids)) for ids in written]

  def predict_fn(dataset):
    return [(int(i), padded[int(i)]) for i, _ in dataset]

  found, _ = evaluator.evaluate(
      compute_metrics=True, step=0, predict_fn=predict_fn
  )
  return dict(found.result()[name])


def test_the_evaluator_scores_classes(configured):
  name = 'colours:template_ask'
  assert _evaluate(name, lambda example: example.targets) == {'accuracy': 100}
  assert _evaluate(name, lambda example: 'red') == {'accuracy': 50}
  assert _evaluate(name, lambda example: 'blue') == {'accuracy': 0}


def test_the_evaluator_scores_texts(configured):
  right = _evaluate('plurals', lambda example: example.targets)
  assert right['exact_match'] == 100
  assert right['rougeL'] == pytest.approx(100)
  wrong = _evaluate('plurals', lambda example: 'none of these')
  assert wrong['exact_match'] == 0


def test_the_evaluator_scores_groups(configured):
  """Under all templates at once: a question's candidates stay together."""
  assert _evaluate('holds', lambda example: example.targets) == {
      'multirc_f1a': 100,
      'multirc_em': 100,
  }
  # Of six candidates three are right: 1, 3 and 5. The first question is
  # answered wholly, the second has one too many.
  got = _evaluate(
      'holds',
      lambda example: (
          'yes' if example.row_id == 'train:4' else example.targets
      ),
  )
  assert got == pytest.approx({'multirc_f1a': 600 / 7, 'multirc_em': 50})


def test_the_evaluator_scores_numbers_and_texts(configured):
  got = _evaluate('scale', lambda example: f'{example.targets}.0')
  assert got['pearson'] == pytest.approx(100)
  assert got['spearman'] == pytest.approx(100)
  assert got['bleu'] == 0.0 and got['record_em'] == 0.0
  # One character of three.
  assert got['edit_similarity'] == pytest.approx(100 / 3)
  assert got['edit_distance'] == pytest.approx(200 / 3)


def test_features_tell_what_our_example_does(configured, ours):
  declared, store, _ = ours
  task = mixtures.resolve(declared, 'colours')
  expected = pipeline.examples(task, 'train', store)
  dataset = seqio.get_mixture_or_task('colours').get_dataset(
      None, 'train', shuffle=False
  )
  for example, features in zip(
      expected, dataset.as_numpy_iterator(), strict=True
  ):
    found = seqio_bridge.example_of(features)
    for name in ('task', 'template', 'row_id', 'inputs', 'targets', 'options'):
      assert getattr(found, name) == getattr(example, name)
    assert found.answer_index == example.answer_index
    assert found.references == example.references


def test_unknown_names(configured):
  with pytest.raises(ValueError, match="'no_such_task'"):
    seqio.get_mixture_or_task('no_such_task')
  with pytest.raises(errors.UserError, match="no template 'aks'. Did you mean"):
    seqio.get_mixture_or_task('colours:template_aks')
  with pytest.raises(
      errors.UserError, match="unknown task or mixture 'colors'"
  ):
    seqio_tasks.register('colors')


def test_what_users_register_mixes_with_ours(configured):
  own = seqio.get_mixture_or_task('colours:no_options').replace(
      name='plurals:mine'
  )
  seqio.TaskRegistry.add_provider('plurals:mine', own)
  try:
    seqio.MixtureRegistry.add('mine', [('plurals:mine', 1), ('colours', 2)])
    assert {task.name for task in seqio.get_mixture_or_task('mine').tasks} == {
        'plurals:mine',
        'colours',
    }
    assert seqio.get_mixture_or_task('plurals:mine') is own
  finally:
    seqio.TaskRegistry.remove('plurals:mine')
    seqio.MixtureRegistry.remove('mine')


def test_configuring_again_makes_tasks_anew(configured, declared):
  seqio_tasks.register('colours', 'both')
  seqio_tasks.register('colours', 'both')  # Twice does no harm.
  before = seqio.get_mixture_or_task('colours')
  assert seqio.get_mixture_or_task('colours') is before
  assert 'both' in seqio.MixtureRegistry.names()
  seqio_tasks.configure(vocabulary='bytes', mixtures=[str(declared)])
  after = seqio.get_mixture_or_task('colours')
  assert after.output_features['inputs'].vocabulary == seqio.ByteVocabulary()


def test_the_environment_gives_the_settings(declared, monkeypatch):
  monkeypatch.setenv('FLAN_JAX_VOCABULARY', 'bytes')
  monkeypatch.setenv('FLAN_JAX_MIXTURES', f'{declared}')
  seqio_tasks.configure()
  assert seqio.get_mixture_or_task('plurals').name == 'plurals'
  assert seqio_tasks.Settings().vocabulary == 'bytes'
  assert seqio_tasks.Settings(vocabulary='x').vocabulary == 'x'


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_categories=['Cs'])) | st.text('▁ aé\n<>'))
def test_vocabularies_agree(model, text):
  own = vocabularies.load(model)
  theirs = seqio_bridge.seqio_vocabulary(own)
  assert theirs.vocab_size == own.size
  assert list(theirs.encode(text)) == own.encode(text)
  np.testing.assert_array_equal(theirs.encode_tf(text), own.encode(text))
  assert theirs.decode(own.encode(text)) == own.decode(own.encode(text))
