"""Exemplars: never the query, as many as fit, the same as text and as ids."""

import dataclasses
import pathlib
import re

from flan_jax import vocabularies
from flan_jax.data import exemplars as exemplars_lib
from flan_jax.data import few_shot
from flan_jax.data import specs
from flan_jax.data import tasks
from flan_jax.data import templates
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

_TOY = specs.Dataset(
    name='toy',
    cluster='toys',
    source=specs.Source(kind='jsonl', where='toy.jsonl'),
    splits={'train': 'train'},
    fields={'q': 'q'},
    choices=specs.Choices(label='label', names=('no', 'yes', 'maybe')),
    metrics=('accuracy',),
    templates=(
        specs.Template(name='ask', inputs='Q {q}', targets='{answer}'),
        specs.Template(
            name='choose', inputs='C {q}\n{options}', targets='{answer}'
        ),
        specs.Template(
            name='write', inverted=True, inputs='W {answer}', targets='{q}'
        ),
    ),
)
_ROWS = [{'q': f'q{i}', 'label': i % 3} for i in range(40)]
_BYTES = vocabularies.ByteVocabulary()


class _Whole:
  """A vocabulary that tokenises whole prompts only, and counts its texts."""

  def __init__(self, vocabulary):
    self._vocabulary = vocabulary
    self.texts: list[str] = []

  def encode_arrays(self, texts):
    self.texts += texts
    return self._vocabulary.encode_arrays(texts)

  def joiner(self, separator):
    del separator


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> vocabularies.Vocabulary:
  path: pathlib.Path = tmp_path_factory.mktemp('vocabulary') / 'our.model'
  words = 'Q C W q the yes no maybe text of one to another'.split()
  generator = np.random.default_rng(0)
  texts = ['\n'.join(generator.choice(words, 8)) + f' {i}' for i in range(300)]
  vocabularies.train_sentencepiece(texts, 292, path)
  return vocabularies.SentencePieceVocabulary(path)


def _renderer(name, rows, dataset=_TOY, **kwargs):
  _, setting = tasks.parse_name(name)
  return templates.Renderer(
      tasks.create(dataset, setting), rows, **({'seed': 0} | kwargs)
  )


def _prompts(renderer, count=None, epoch=0):
  """Each prompt's exemplars and query, between blank lines."""
  indices = np.arange(len(renderer._rows) if count is None else count)
  inputs, _ = renderer.render_texts(indices, np.full(len(indices), epoch))
  return [prompt.split('\n\n') for prompt in inputs]


def _ids(renderer, count, epoch=0):
  parts, targets = renderer.render_ids(np.arange(count), np.full(count, epoch))
  return [np.concatenate(some).tolist() for some in parts], targets


_TEXTS = st.lists(
    st.sampled_from(
        ['the', ' ', 'q', '\n', '\u2581', ' <extra_id_1>', 'é', '1', '{', '']
    ),
    max_size=8,
).map(''.join)


@hypothesis.given(
    fields=st.lists(_TEXTS, min_size=1, max_size=9),
    setting=st.sampled_from(['3_shot', 'fit_shot', '5_shot:random_options']),
    kind=st.sampled_from(['bytes', 'ours']),
    max_inputs=st.integers(2, 150),
    mixed=st.booleans(),
    between=st.sampled_from(['\n\n', '\n', ' ; ']),
)
@hypothesis.settings(deadline=None, max_examples=150)
def test_ids_are_those_of_the_text(
    fake_rows, trained, fields, setting, kind, max_inputs, mixed, between
):
  vocabulary = _BYTES if kind == 'bytes' else trained
  rows = fake_rows(
      [{'q': text, 'label': i % 3} for i, text in enumerate(fields)]
  )
  shared = {
      'max_inputs': max_inputs,
      'layout': few_shot.Layout(mixed=mixed, between=between),
  }
  renderer = _renderer(f'toy:{setting}', rows, vocabulary=vocabulary, **shared)
  texts, targets = renderer.render_texts(
      np.arange(len(fields)), np.zeros(len(fields), int)
  )
  ids, again = _ids(renderer, len(fields))
  assert ids == [vocabulary.encode(text) for text in texts]
  assert targets == again
  # And the texts are those of a vocabulary that can only count.
  other = _renderer(
      f'toy:{setting}', rows, vocabulary=_Whole(vocabulary), **shared
  )
  assert (
      texts
      == other.render_texts(np.arange(len(fields)), np.zeros(len(fields), int))[
          0
      ]
  )
  assert ids == _ids(other, len(fields))[0]
  # Only whole exemplars are dropped, from the end, and only where they must.
  everything = _renderer(
      f'toy:{setting}',
      rows,
      vocabulary=vocabulary,
      **(shared | {'max_inputs': 10_000}),
  ).render_texts(np.arange(len(fields)), np.zeros(len(fields), int))[0]
  for text, prompt in zip(texts, everything, strict=True):
    if len(vocabulary.encode(prompt)) < max_inputs:
      assert text == prompt
    elif text != prompt:
      assert len(text) < len(prompt)


def test_what_is_quicker_changes_no_prompt(fake_rows):
  rows = fake_rows([{'q': f'q{i}', 'label': i % 3} for i in range(400)])
  settings = {'vocabulary': _BYTES, 'max_inputs': 3000}
  name = 'toy:3_shot:no_options'
  cold = _renderer(name, rows, cache=exemplars_lib.Cache(1000), **settings)
  warm = _renderer(name, rows, **settings)
  ways = set()
  for epoch in range(3):
    before = cold._prompter._pays()
    found = _ids(cold, 400, epoch)
    ways |= {before, cold._prompter._pays()}
    assert found == _ids(warm, 400, epoch)
  # At first nothing is known; then most exemplars are new.
  assert ways == {True, False}


def test_exemplars_are_tokenised_once(fake_rows):
  vocabulary = _Whole(_BYTES)
  rows = fake_rows(_ROWS[:6])
  renderer = _renderer(
      'toy:template_ask:3_shot', rows, vocabulary=_BYTES, max_inputs=500
  )
  joiner = renderer._prompter._joiner
  joiner._vocabulary = vocabulary
  for epoch in range(5):
    _ids(renderer, 6, epoch)
  exemplars = [text for text in vocabulary.texts if re.search('[os]$|e$', text)]
  # Six rows, at the beginning and after others; queries come again each time.
  assert len(exemplars) == len(set(exemplars)) == 12
  assert len(vocabulary.texts) == 12 + 30


def test_a_query_that_occurs_twice_is_no_exemplar(fake_rows):
  # Row 20 puts the same question as row 3, with another answer.
  rows = [dict(row) for row in _ROWS[:24]]
  rows[20] = {'q': 'q3', 'label': 2}
  for name in ('toy:template_ask:23_shot', 'toy:template_choose:23_shot'):
    found = _prompts(_renderer(name, fake_rows(rows)))
    for exemplars in (found[3][:-1], found[20][:-1]):
      assert len(exemplars) == 22
      assert not any(re.match(r'. q3\n', one) for one in exemplars)
    assert len(found[0][:-1]) == 23
  # It is another text to write, so writing it is no repetition.
  written = _prompts(_renderer('toy:template_write:23_shot', fake_rows(rows)))
  assert len(written[3][:-1]) == 23
  rows[20] = rows[3]
  written = _prompts(_renderer('toy:template_write:23_shot', fake_rows(rows)))
  assert len(written[3][:-1]) == 22


def test_the_order_of_options_does_not_hide_the_query(fake_rows):
  rows = [dict(row) for row in _ROWS[:12]]
  rows[7] = rows[2]
  name = 'toy:template_choose:11_shot:random_options'
  for epoch in range(4):
    found = _prompts(_renderer(name, fake_rows(rows)), epoch=epoch)
    for place in (2, 7):
      assert len(found[place]) == 11
      assert not any(one.startswith('C q2\n') for one in found[place][:-1])


def test_others_take_the_place_of_rows_that_ask_the_same(fake_rows):
  # Half of a thousand rows put one question; three others are found all the
  # same, and they are those that would have been there without the half.
  rows = [{'q': 'same' if i % 2 else f'q{i}', 'label': 0} for i in range(1000)]
  renderer = _renderer('toy:template_ask:3_shot', fake_rows(rows))
  for place, prompt in enumerate(_prompts(renderer, 60)):
    assert len(prompt) == 4
    if place % 2:
      assert not any(one.startswith('Q same') for one in prompt[:-1])
  # And where all do, there are none.
  alike = fake_rows([{'q': 'same', 'label': 0}] * 300)
  assert _prompts(_renderer('toy:template_ask:3_shot', alike), 2) == (
      [['Q same']] * 2
  )


@pytest.mark.parametrize('size', [40, 400])
def test_leaving_the_query_out_changes_no_other(fake_rows, size):
  rows = [{'q': f'q{i}', 'label': 0} for i in range(size)]
  shots = 5
  train = fake_rows(rows)
  # The same rows as another split's, which no exemplar can be.
  queries = fake_rows(rows, split='validation', first=5000)
  name = f'toy:template_ask:{shots}_shot'
  inside = _prompts(_renderer(name, train))
  outside = _prompts(
      _renderer(
          name,
          fake_rows(
              [{'q': f'x{i}', 'label': 0} for i in range(size)],
              split='validation',
              first=5000,
          ),
          exemplars=train,
      )
  )
  assert len(queries) == len(inside) == len(outside)
  changed = 0
  for i, (some, others) in enumerate(zip(inside, outside, strict=True)):
    without = [one for one in others[:-1] if not one.startswith(f'Q q{i}\n')]
    assert some[: len(without)] == without
    assert len(some[:-1]) == shots
    changed += len(without) < shots
  assert 0 < changed < size / 2


def test_templates_may_be_mixed(fake_rows):
  rows = fake_rows(_ROWS)
  layout = few_shot.Layout(mixed=True)
  mixed = _prompts(_renderer('toy:4_shot:no_options', rows, layout=layout))
  letters = [{one[0] for one in prompt[:-1]} for prompt in mixed]
  assert all(len(prompt) == 5 for prompt in mixed)
  assert {letter for some in letters for letter in some} == set('QCW')
  assert sum(len(some) > 1 for some in letters) > 30
  plain = _prompts(_renderer('toy:4_shot:no_options', rows))
  for prompt in plain:
    assert len({one[0] for one in prompt}) == 1
  # One template alone cannot be mixed.
  name = 'toy:template_ask:4_shot'
  assert _prompts(_renderer(name, rows, layout=layout)) == _prompts(
      _renderer(name, rows)
  )
  # The query's question is known under any template.
  doubled = [dict(row) for row in _ROWS[:10]]
  doubled[9] = doubled[0]
  found = _prompts(
      _renderer('toy:2_templates:9_shot', fake_rows(doubled), layout=layout)
  )
  for place in (0, 9):
    assert not any(re.match(r'. q0\n', one) for one in found[place][:-1])
    assert len(found[place]) == 9


def test_small_splits_give_what_there_is(fake_rows):
  rows = fake_rows(_ROWS[:4])
  for shots, expected in ((2, 2), (3, 3), (9, 3), (200, 3)):
    for prompt in _prompts(_renderer(f'toy:template_ask:{shots}_shot', rows)):
      assert len(prompt) == expected + 1


def test_separators_are_those_of_the_layout(fake_rows):
  layout = few_shot.Layout(between=' || ', answer=' -> ')
  renderer = _renderer(
      'toy:template_ask:2_shot', fake_rows(_ROWS), layout=layout
  )
  prompt = renderer.render(np.array([0]), np.array([0]))[0].inputs
  assert re.fullmatch(r'(Q q\d+ -> (yes|no|maybe) \|\| ){2}Q q0', prompt)


def test_prompts_do_not_depend_on_the_batch_or_the_cache(fake_rows):
  rows = fake_rows(_ROWS)
  settings = {'vocabulary': _BYTES, 'max_inputs': 90}
  for name in ('toy:3_shot', 'toy:fit_shot:random_options'):
    renderer = _renderer(name, rows, **settings)
    together = _ids(renderer, 40)
    fresh = _renderer(name, rows, cache=exemplars_lib.Cache(30), **settings)
    for i in reversed(range(40)):
      parts, targets = fresh.render_ids(np.array([i]), np.array([0]))
      assert np.concatenate(parts[0]).tolist() == together[0][i]
      assert targets == together[1][i : i + 1]


def test_a_cache_forgets_what_was_used_longest_ago():
  cache = exemplars_lib.Cache(characters=10)
  keys = [('toy', i, 0, 0, 0) for i in range(4)]
  exemplars = [
      exemplars_lib.Exemplar(text, text) for text in ('aaaa', 'bbbb', 'cc')
  ]
  for key, exemplar in zip(keys, exemplars, strict=False):
    cache.put(key, exemplar)
  assert cache.get(keys[0]) is exemplars[0]  # So the second is the oldest.
  cache.put(keys[3], exemplars_lib.Exemplar('dd', 'dd'))
  assert cache.get(keys[1]) is None
  assert all(cache.get(keys[i]) for i in (0, 2, 3))


def test_tasks_share_a_cache_and_no_exemplars(fake_rows):
  cache = exemplars_lib.Cache()
  other = dataclasses.replace(_TOY, name='other')
  rows = [fake_rows(_ROWS), fake_rows([{'q': 'z', 'label': 1}] * 3)]
  for _ in range(2):
    first = _prompts(_renderer('toy:2_shot', rows[0], cache=cache))
    second = _prompts(_renderer('other:2_shot', rows[1], other, cache=cache))
    assert first == _prompts(_renderer('toy:2_shot', rows[0]))
    assert second == _prompts(_renderer('other:2_shot', rows[1], other))
