"""The pipeline: one order for any hosts, exact resumption, whole examples."""

import collections
import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import sys

from flan_jax import errors
from flan_jax import vocabularies
from flan_jax.data import catalogue
from flan_jax.data import few_shot
from flan_jax.data import mixtures
from flan_jax.data import packing
from flan_jax.data import pipeline
from flan_jax.data import reports
from flan_jax.data import rows
import numpy as np
import pytest

BYTES = vocabularies.ByteVocabulary()
LENGTHS = {'inputs': 128, 'targets': 32}
CONFIG = pipeline.PipelineConfig(lengths=LENGTHS, batch_size=8, block=64)

DATASET = """
version: 1
cluster: tests
source: {{jsonl: {name}.jsonl}}
splits: {{train: "all[:-{held}]", validation: "all[-{held}:]"}}
fields: {{question: q, answer: a}}
metrics: [exact_match]
templates:
- name: plain
  inputs: "{name} asks: {{question}}"
  targets: "{{answer}}"
- name: twice
  inputs: "{{question}} Again, {{question}}"
  targets: "It is {{answer}}"
"""
SIZES = {'short': 300, 'long': 90, 'few': 17}
HELD = 7


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  """Three datasets and a mixture of them, as a user has them."""
  folder = tmp_path_factory.mktemp('world')
  generator = np.random.default_rng(0)
  for name, size in SIZES.items():
    (folder / f'{name}.yaml').write_text(
        DATASET.format(name=name, held=HELD).replace('"all[', '"train[')
    )
    most = 60 if name == 'long' else 12
    lines = [
        {
            'q': 'x' * int(generator.integers(1, most)) + f' {i}',
            'a': f'{name} {i}',
        }
        for i in range(size + HELD)
    ]
    (folder / f'{name}.jsonl').write_text(
        ''.join(json.dumps(line) + '\n' for line in lines)
    )
  (folder / 'mixed.yaml').write_text(
      'version: 1\nmembers:\n- short\n- {name: long, weight: 2}\n- few\n'
      'cap: 100\n'
  )
  found = catalogue.Catalogue([folder])
  return found, rows.RowStore(folder / 'cache')


@pytest.fixture(scope='module')
def mixed(world):
  found, store = world
  return mixtures.resolve(found, 'mixed'), store


def make(mixed, config=CONFIG, **hosts):
  mixture, store = mixed
  return pipeline.TrainPipeline(mixture, 'train', BYTES, store, config, **hosts)


def take(some, count):
  return [next(some) for _ in range(count)]


def assert_same(left, right):
  assert len(left) == len(right)
  for one, other in zip(left, right, strict=True):
    assert list(one) == list(packing.FEATURES) == list(other)
    for name in one:
      assert one[name].dtype == np.int32
      np.testing.assert_array_equal(one[name], other[name])


def texts(batches) -> list[tuple[str, str]]:
  """All examples of batches as text, by segments."""
  found = []
  for batch in batches:
    for row in range(packing.count_rows(batch)):
      inputs, in_segments, targets, out_segments = (
          batch[name][row]
          for name in (
              'encoder_input_tokens',
              'encoder_segment_ids',
              'decoder_target_tokens',
              'decoder_segment_ids',
          )
      )
      found += [
          (
              BYTES.decode(inputs[in_segments == segment]),
              BYTES.decode(targets[out_segments == segment]),
          )
          for segment in range(1, out_segments.max() + 1)
      ]
  return found


def test_batches_have_their_shapes(mixed):
  some = make(mixed)
  assert iter(some) is some
  for batch in take(some, 3):
    for name, array in batch.items():
      length = LENGTHS['inputs' if name.startswith('enc') else 'targets']
      assert array.shape == (8, length)
    assert batch['decoder_loss_weights'].sum(axis=1).all()


def test_examples_are_those_of_the_renderer_in_their_shares(mixed):
  mixture, store = mixed
  batches = take(make(mixed), 120)
  found = collections.Counter(text for _, text in texts(batches))
  seen = {name: 0 for name in SIZES}
  answers = {name: set() for name in SIZES}
  for target, count in found.items():
    name, number = target.removeprefix('It is ').split()
    seen[name] += count
    answers[name].add(int(number))
  # Rates are weight times the number of examples, of which 100 count.
  total = sum(seen.values())
  for name, rate in {'short': 100, 'long': 180, 'few': 17}.items():
    assert seen[name] == pytest.approx(total * rate / 297, abs=total * 0.02)
  # And no more than 100 rows of `short` are ever used.
  assert len(answers['short']) == 100
  assert len(answers['long']) == 90 and len(answers['few']) == 17
  # Every text is one that rendering by itself gives in some epoch.
  known = set()
  for task, _ in mixture.members:
    renderer = pipeline.blocks.renderer(
        task, store.open(task.dataset, 'train'), store, seed=0
    )
    count = len(store.open(task.dataset, 'train'))
    for epoch in range(60):
      known |= set(
          zip(
              *renderer.render_texts(np.arange(count), np.full(count, epoch)),
              strict=True,
          )
      )
  cut = {(inputs[:127], targets[:31]) for inputs, targets in known}
  assert set(texts(batches)) <= cut


@pytest.mark.parametrize('pack', [True, False])
def test_batches_say_whose_examples_they_hold(mixed, pack):
  names = [task.name for task, _ in mixed[0].members]
  config = dataclasses.replace(CONFIG, pack=pack)
  plain = take(make(mixed, config), 4)
  # From a stream's block to the next as well: 64 examples are a few rows.
  named = take(make(mixed, dataclasses.replace(config, member_ids=True)), 4)
  for batch in named:
    ids = batch.pop(packing.MEMBER_IDS)
    assert ids.dtype == np.int32 and ids.shape == (8, LENGTHS['targets'])
    shown = [text for _, text in texts([batch])]
    said = [names[i - 1] for i in ids[ids > 0]]
    assert said == [t.removeprefix('It is ').split()[0] for t in shown]
  assert_same(plain, named)


@pytest.mark.parametrize('pack', [True, False])
def test_an_epoch_shows_every_row_once(world, pack):
  found, store = world
  config = pipeline.PipelineConfig(
      lengths=LENGTHS, batch_size=1, streams=1, pack=pack, block=30
  )
  task = mixtures.resolve(found, 'short')
  some = make((task, store), config)
  shown: list[str] = []
  while len(shown) < 300:
    # A block's rows are shuffled, so whole blocks are compared.
    shown += [text for _, text in texts(take(some, 1))]
  answers = [text.removeprefix('It is ') for text in shown[:300]]
  assert sorted(answers) == sorted(f'short {i}' for i in range(300))
  assert answers != [f'short {i}' for i in range(300)]


def test_unshuffled_rows_stay_in_order(world):
  found, store = world
  config = pipeline.PipelineConfig(
      lengths=LENGTHS, batch_size=4, streams=1, pack=False, shuffle=False
  )
  some = make((mixtures.resolve(found, 'few'), store), config)
  shown = [text.removeprefix('It is ') for _, text in texts(take(some, 5))]
  assert shown == [f'few {i % 17}' for i in range(20)]


@pytest.mark.parametrize('pack', [True, False])
@pytest.mark.parametrize('hosts', [2, 4, 8])
def test_hosts_share_the_same_global_batches(mixed, hosts, pack):
  config = pipeline.PipelineConfig(
      lengths=LENGTHS, batch_size=16, block=40, pack=pack
  )
  alone = take(make(mixed, config), 12)
  parts = [
      take(make(mixed, config, process_index=host, process_count=hosts), 12)
      for host in range(hosts)
  ]
  together = [
      {name: np.concatenate([part[name] for part in step]) for name in step[0]}
      for step in zip(*parts, strict=True)
  ]
  assert_same(together, alone)


@pytest.mark.parametrize('stopped', [0, 1, 7, 23])
@pytest.mark.parametrize('hosts', [1, 4])
def test_going_on_from_a_saved_position(mixed, stopped, hosts):
  whole = make(mixed)
  take(whole, stopped)
  saved = json.loads(json.dumps(whole.get_state()))
  expected = take(whole, 9)
  parts = []
  for host in range(hosts):
    part = make(mixed, process_index=host, process_count=hosts)
    take(part, 2)  # What has been read before the position is set is dropped.
    part.set_state(saved)
    parts.append(take(part, 9))
  together = [
      {name: np.concatenate([part[name] for part in step]) for name in step[0]}
      for step in zip(*parts, strict=True)
  ]
  assert_same(together, expected)


def test_positions_of_many_hosts_join(mixed):
  alone = make(mixed)
  take(alone, 5)
  parts = [make(mixed, process_index=i, process_count=2) for i in range(2)]
  for part in parts:
    take(part, 5)
  states = [part.get_state() for part in parts]
  assert pipeline.merge_states(states) == alone.get_state()
  with pytest.raises(errors.UserError, match='another host alone'):
    make(mixed).set_state(states[0])
  next(parts[1])
  with pytest.raises(ValueError, match='same batch'):
    pipeline.merge_states([states[0], parts[1].get_state()])


def test_the_position_is_a_few_integers(mixed):
  some = make(mixed)
  take(some, 60)
  state = some.get_state()
  assert state['batches'] == 60
  assert len(state['streams']) == 8
  for block, row in state['streams']:
    assert type(block) is int and type(row) is int
    assert block > 0 and row >= 0
  assert len(json.dumps(state)) < 600


def test_streams_are_taken_over_from_the_position(mixed):
  config = pipeline.PipelineConfig(
      lengths=LENGTHS, batch_size=8, block=64, streams=2
  )
  saved = make(mixed, config)
  take(saved, 3)
  again = make(mixed)  # Would have 8.
  again.set_state(saved.get_state())
  assert_same(take(again, 3), take(saved, 3))
  other = pipeline.PipelineConfig(
      lengths=LENGTHS, batch_size=8, block=64, streams=4
  )
  with pytest.raises(errors.UserError, match='set streams to 2'):
    make(mixed, other).set_state(saved.get_state())


def test_a_position_in_other_data_is_refused(world, mixed):
  found, store = world
  state = make(mixed).get_state()
  task = mixtures.resolve(found, 'short')
  with pytest.raises(errors.UserError, match=r'different: mixture\)'):
    make((task, store)).set_state(state)
  config = pipeline.PipelineConfig(
      lengths={'inputs': 64, 'targets': 32}, batch_size=8, block=64, seed=1
  )
  other = make(mixed, config)
  with pytest.raises(errors.UserError, match='different: seed, lengths'):
    other.set_state(state)
  other.set_state(state, other_data=True)
  next(other)


def test_the_seed_changes_everything(mixed):
  config = pipeline.PipelineConfig(
      lengths=LENGTHS, batch_size=8, block=64, seed=1
  )
  one, other = texts(take(make(mixed), 4)), texts(take(make(mixed, config), 4))
  assert set(one) != set(other)


def test_worker_processes_change_nothing(mixed):
  config = pipeline.PipelineConfig(
      lengths=LENGTHS, batch_size=8, block=64, workers=2
  )
  here, there = make(mixed), make(mixed, config)
  try:
    assert_same(take(there, 10), take(here, 10))
    saved = there.get_state()
    assert saved == here.get_state()
    there.set_state(saved)
    assert_same(take(there, 3), take(here, 3))
  finally:
    there.close()


def test_what_goes_wrong_in_a_worker_reaches_the_user(tmp_path):
  (tmp_path / 'gone.yaml').write_text(
      DATASET.format(name='gone', held=1).replace('"all[', '"train[')
  )
  lines = [{'q': 'q', 'a': 'one'} for _ in range(9)]
  (tmp_path / 'gone.jsonl').write_text(
      ''.join(json.dumps(line) + '\n' for line in lines)
  )
  task = mixtures.resolve(catalogue.Catalogue([tmp_path]), 'gone')
  store = rows.RowStore(tmp_path / 'cache')
  config = pipeline.PipelineConfig(
      lengths=LENGTHS, batch_size=8, block=64, workers=1
  )
  some = make((task, store), config)
  # Here the rows are open; the worker will not find them.
  shutil.rmtree(tmp_path / 'cache')
  (tmp_path / 'gone.jsonl').unlink()
  with pytest.raises(errors.UserError, match='gone.jsonl'):
    next(some)
  some.close()


def test_examples_are_in_the_order_of_rows(world):
  found, store = world
  task = mixtures.resolve(found, 'few')
  shown = pipeline.examples(task, 'validation', store)
  answers = [example.targets.removeprefix('It is ') for example in shown]
  assert answers == [f'few {i}' for i in range(17, 24)]
  assert pipeline.examples(task, 'validation', store, limit=3) == shown[:3]
  assert {example.template for example in shown} == {'plain', 'twice'}
  other = pipeline.examples(task, 'validation', store, seed=1)
  assert [e.inputs for e in other] != [e.inputs for e in shown]


def test_shots_are_taken_from_the_train_split(world):
  found, store = world
  task = mixtures.resolve(found, 'few:2_shot')
  first, *_ = pipeline.examples(
      task, 'validation', store, vocabulary=BYTES, lengths={'inputs': 1000}
  )
  assert first.inputs.count('few') >= 2
  cut = pipeline.examples(
      task, 'validation', store, vocabulary=BYTES, lengths={'inputs': 60}
  )
  assert all(len(example.inputs) < 60 for example in cut)
  fitted = mixtures.resolve(found, 'few:fit_shot')
  with pytest.raises(errors.UserError, match='fit_shot needs'):
    pipeline.examples(fitted, 'validation', store)


def test_evaluation_batches_are_one_epoch_at_most(mixed):
  mixture, store = mixed
  config = pipeline.PipelineConfig(
      lengths=LENGTHS, batch_size=4, pack=False, block=5
  )

  def batches(steps, **hosts):
    return pipeline.evaluation_batches(
        mixture, 'validation', BYTES, store, config, steps, **hosts
    )

  every = batches(100)
  answers = [text.removeprefix('It is ') for _, text in texts(every)]
  # Members take turns in the order of their rows.
  starts = {'short': 300, 'long': 90, 'few': 17}
  expected = [
      f'{name} {start + i}'
      for i in range(HELD)
      for name, start in starts.items()
  ]
  assert answers == expected
  # 21 examples in rows of their own: the last batch has three empty rows.
  assert len(every) == 6
  assert all(packing.count_rows(batch) == 4 for batch in every)
  assert every[-1]['decoder_loss_weights'].any(axis=1).tolist() == [
      True,
      False,
      False,
      False,
  ]
  assert_same(batches(2), every[:2])
  halves = [batches(100, process_index=i, process_count=2) for i in range(2)]
  for left, right, both in zip(*halves, every, strict=True):
    for name, array in both.items():
      np.testing.assert_array_equal(
          np.concatenate([left[name], right[name]]), array
      )


def test_packed_evaluation_holds_the_same_examples(mixed):
  mixture, store = mixed
  config = pipeline.PipelineConfig(lengths=LENGTHS, batch_size=4)
  apart = pipeline.PipelineConfig(lengths=LENGTHS, batch_size=4, pack=False)
  packed, single = (
      pipeline.evaluation_batches(
          mixture, 'validation', BYTES, store, each, 100
      )
      for each in (config, apart)
  )
  assert sorted(texts(packed)) == sorted(texts(single))
  assert len(packed) < len(single)


def test_the_first_evaluation_batches_are_not_the_longest_examples(mixed):
  mixture, store = mixed
  config = pipeline.PipelineConfig(lengths=LENGTHS, batch_size=16)

  def longest_first(steps):
    *_, batch = [
        each
        for each in pipeline.evaluation_batches(
            mixture, 'train', BYTES, store, config, steps
        )
        if each['encoder_segment_ids'].any(axis=1).all()
    ]
    return batch['encoder_segment_ids'].max(axis=1)

  # Rows of few, long examples stand in the first batch and in the last.
  first, last = longest_first(1), longest_first(100)
  assert abs(first.mean() - last.mean()) < 1


@pytest.mark.parametrize(
    'changes, hosts, message',
    [
        ({'batch_size': 6}, 4, '6 rows cannot be dealt out evenly to 4 hosts'),
        ({'streams': 3}, 1, '8 rows cannot be taken evenly from 3 streams'),
        ({'streams': 2}, 4, '2 streams cannot be dealt out evenly to 4'),
        ({'lengths': {'inputs': 10}}, 1, "'targets' must be 2 tokens"),
        ({'batch_size': 0}, 1, 'batch_size must be'),
        ({'block': 0}, 1, 'block must be'),
        ({'workers': -1}, 1, 'workers must be'),
    ],
)
def test_sizes_that_do_not_suit(mixed, changes, hosts, message):
  with pytest.raises(errors.UserError, match=message):
    values = {'lengths': LENGTHS, 'batch_size': 8, **changes}
    make(mixed, pipeline.PipelineConfig(**values), process_count=hosts)


@pytest.mark.parametrize(
    'batch_size, hosts, streams',
    [(8, 1, 8), (256, 4, 8), (12, 1, 6), (12, 4, 12), (64, 16, 16), (7, 1, 7)],
)
def test_streams_by_default(batch_size, hosts, streams):
  found = pipeline.streams_lib.number(None, batch_size, hosts)
  assert found == streams


def test_importing_is_light():
  """Reading and showing examples starts neither jax nor TensorFlow."""
  code = (
      'import sys; from flan_jax.data import pipeline;'
      ' assert not {"jax", "tensorflow", "grain", "sentencepiece"}'
      ' & set(sys.modules)'
  )
  root = pathlib.Path(pipeline.__file__).parents[2]
  subprocess.run([sys.executable, '-c', code], check=True, cwd=root)


@pytest.mark.parametrize('name', ['mixed:2_shot', 'mixed:fit_shot'])
def test_few_shot_streams_are_the_same_on_any_hosts_and_after_a_stop(
    world, name
):
  found, store = world
  mixture = mixtures.resolve(found, name)
  config = pipeline.PipelineConfig(
      lengths=LENGTHS,
      batch_size=8,
      block=40,
      few_shot=few_shot.Layout(mixed=True),
  )
  whole = make((mixture, store), config)
  expected = take(whole, 12)
  # Four hosts, which stop after five batches and are two from then on.
  hosts = [
      make((mixture, store), config, process_index=i, process_count=4)
      for i in range(4)
  ]
  before = [take(host, 5) for host in hosts]
  saved = pipeline.merge_states([host.get_state() for host in hosts])
  again = [
      make((mixture, store), config, process_index=i, process_count=2)
      for i in range(2)
  ]
  for host in again:
    host.set_state(json.loads(json.dumps(saved)))
  after = [take(host, 7) for host in again]
  together = [
      {name: np.concatenate([part[name] for part in step]) for name in step[0]}
      for step in [*zip(*before, strict=True), *zip(*after, strict=True)]
  ]
  assert_same(together, expected)
  assert any('\n\n' in inputs for inputs, _ in texts(expected))
  # Another layout is other data.
  other = dataclasses.replace(config, few_shot=few_shot.Layout())
  with pytest.raises(errors.UserError, match=r'different: few_shot\)'):
    make((mixture, store), other).set_state(saved)


def test_what_did_not_fit_is_counted(world):
  found, store = world
  config = pipeline.PipelineConfig(
      lengths={'inputs': 40, 'targets': 12}, batch_size=4, block=50, streams=1
  )
  mixture = mixtures.resolve(found, 'mixed')
  some = make((mixture, store), config)
  assert some.report.cut() == [] and not some.report.counts.any()
  batches = take(some, 30)
  # All that has been begun: the batches, and the rest of the last block.
  ((block, row),) = some.get_state()['streams']
  blocks_begun = block + bool(row)
  counted = {each.task: each for each in some.report.tasks()}
  assert list(counted) == ['short', 'long', 'few']
  total = sum(each.examples for each in counted.values())
  assert total == blocks_begun * 50
  # Once more by hand, from whole texts.
  uncut = make(
      (mixture, store),
      dataclasses.replace(config, lengths={'inputs': 999, 'targets': 99}),
  )
  shown: list[tuple[str, str]] = []
  while len(shown) < total:
    shown += texts(take(uncut, 1))
  expected: collections.Counter[tuple[str, str]] = collections.Counter()
  for inputs, targets in shown[:total]:
    name = targets.removeprefix('It is ').split()[0]
    expected[name, 'examples'] += 1
    expected[name, 'inputs_cut'] += len(inputs) + 1 > 40
    expected[name, 'targets_cut'] += len(targets) + 1 > 12
    expected[name, 'input_tokens'] += min(len(inputs) + 1, 40)
    expected[name, 'target_tokens'] += min(len(targets) + 1, 12)
  for name, each in counted.items():
    for column in dataclasses.fields(each)[1:]:
      assert getattr(each, column.name) == expected[name, column.name]
  assert counted['long'].inputs_cut and counted['short'].targets_cut
  assert {each.task for each in some.report.cut()} <= set(SIZES)
  assert len(batches) == 30
  # Hosts add theirs up.
  both = reports.Report(list(SIZES))
  both.merge([some.report, some.report])
  np.testing.assert_array_equal(both.counts, 2 * some.report.counts)


def test_workers_count_too(mixed):
  config = dataclasses.replace(CONFIG, workers=1)
  here, there = make(mixed), make(mixed, config)
  try:
    take(here, 5), take(there, 5)
    np.testing.assert_array_equal(here.report.counts, there.report.counts)
    assert here.report.counts.any()
  finally:
    there.close()


@pytest.mark.parametrize('pack', [True, False])
def test_drawn_is_what_the_batches_hold(mixed, pack):
  config = dataclasses.replace(CONFIG, pack=pack)
  some = make(mixed, config)
  names = list(SIZES)
  assert some.drawn().tolist() == [0, 0, 0]
  batches = take(some, 60)
  again = make(mixed, config)
  again.set_state(json.loads(json.dumps(some.get_state())))
  np.testing.assert_array_equal(again.drawn(), some.drawn())
  held = collections.Counter(
      re.search(r'(short|long|few) ', targets + inputs)[1]
      for inputs, targets in texts(batches)
  )
  counts = np.array([held[name] for name in names])
  if pack:  # Blocks that are begun are counted by rows.
    np.testing.assert_allclose(some.drawn(), counts, rtol=0.02, atol=6)
    assert abs(some.drawn().sum() - counts.sum()) < 0.02 * counts.sum()
  else:
    np.testing.assert_array_equal(some.drawn(), counts)


def test_drawn_needs_all_streams(mixed):
  some = make(mixed, process_index=0, process_count=2)
  with pytest.raises(ValueError, match='Other hosts'):
    some.drawn()


def test_another_cap_is_other_data(mixed):
  """Though the rates are the same."""
  mixture, store = mixed
  one, other = (
      make((dataclasses.replace(mixture, cap=cap, max_rate=17), store))
      for cap in (100, 90)
  )
  with pytest.raises(errors.UserError, match='different: mixture'):
    other.set_state(one.get_state())


ONE_SIDE = dataclasses.replace(CONFIG, row_format='one_side')


def joined_texts(batches) -> list[tuple[str, str]]:
  """As `texts`, of rows that hold inputs and targets as one sequence."""
  found = []
  for batch in batches:
    for row in range(packing.count_rows(batch)):
      tokens, segments, weights = (
          batch[f'decoder_{name}'][row]
          for name in ('target_tokens', 'segment_ids', 'loss_weights')
      )
      for segment in range(1, segments.max() + 1):
        here = segments == segment
        found.append((
            BYTES.decode(tokens[here & (weights == 0)]),
            BYTES.decode(tokens[here & (weights == 1)]),
        ))
  return found


@pytest.mark.parametrize('pack', [True, False])
def test_one_sided_rows_hold_the_same_examples(mixed, pack):
  """Those of a block: rows are other ones, and so is their order."""
  block = dict(streams=1, batch_size=1, pack=pack)
  two, one = (
      make(mixed, dataclasses.replace(config, **block))
      for config in (CONFIG, ONE_SIDE)
  )
  expected, found = texts([next(two)]), joined_texts([next(one)])
  while two.get_state()['streams'][0][0] == 0:
    expected += texts([next(two)])
  while one.get_state()['streams'][0][0] == 0:
    found += joined_texts([next(one)])
  assert len(found) == CONFIG.block
  assert sorted(found) == sorted(expected)
  batch = next(one)
  assert tuple(batch) == tuple(packing.ONE_SIDE.features)
  assert all(rows.shape == (1, 160) for rows in batch.values())


def test_one_sided_rows_are_the_same_on_any_hosts_and_from_workers(mixed):
  config = dataclasses.replace(ONE_SIDE, member_ids=True)
  alone = take(make(mixed, config), 6)
  parts = [
      take(make(mixed, config, process_index=host, process_count=2), 6)
      for host in range(2)
  ]
  many = make(mixed, dataclasses.replace(config, workers=1))
  try:
    from_workers = take(many, 6)
  finally:
    many.close()
  by_hosts = zip(*parts, strict=True)
  for batch, own, other in zip(alone, from_workers, by_hosts, strict=True):
    for name, array in batch.items():
      np.testing.assert_array_equal(own[name], array)
      whole = np.concatenate([part[name] for part in other])
      np.testing.assert_array_equal(whole, array)
  names = [task.name for task, _ in mixed[0].members]
  for batch in alone:
    ids = batch[packing.MEMBER_IDS]
    said = [names[i - 1] for i in ids[ids > 0]]
    shown = [text.split()[-2] for _, text in joined_texts([batch])]
    assert said == shown


def test_one_sided_evaluation_and_positions(mixed):
  mixture, store = mixed
  both = [
      pipeline.evaluation_batches(
          mixture, 'validation', BYTES, store, config, 50
      )
      for config in (CONFIG, ONE_SIDE)
  ]
  found = joined_texts(both[1])
  assert sorted(found) == sorted(texts(both[0]))
  assert len(found) == 3 * HELD
  # A position means other rows in another format.
  some = make(mixed, ONE_SIDE)
  next(some)
  again = make(mixed, ONE_SIDE)
  again.set_state(some.get_state())
  assert joined_texts([next(again)]) == joined_texts([next(some)])
  for one, other in ((CONFIG, ONE_SIDE), (ONE_SIDE, CONFIG)):
    with pytest.raises(errors.UserError, match=r'different: row_format\)'):
      make(mixed, one).set_state(make(mixed, other).get_state())
