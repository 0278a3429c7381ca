"""Answers that outlive a kill, and are never taken for others."""

import dataclasses

from flan_jax.data import examples
from flan_jax.evaluation import kept
from flan_jax.evaluation import plan
from flan_jax.evaluation import protocol
from flan_jax.evaluation import scoring
import pytest

_FACTS = {'checkpoint': 'runs/a/checkpoint_5', 'lengths': {'inputs': 8}}


def _examples(count, **changes):
  example = examples.Example(
      task='t', template='p', row_id='', inputs='?', targets='x'
  )
  return [
      dataclasses.replace(example, row_id=f'test:{i}', **changes)
      for i in range(count)
  ]


_SAID = [
    scoring.Answer('é\u2028', None, -1.25, None),
    scoring.Answer('b', 1, -2.0, (None, -2.0), True),
]


def test_what_was_kept_is_found_again(tmp_path):
  asked = _examples(2)
  keeper = kept.Keeper(tmp_path, _FACTS)
  assert keeper.find(asked, True) is None
  keeper.keep(asked, True, _SAID)
  again = kept.Keeper(tmp_path, dict(reversed(_FACTS.items())))
  assert again.find(asked, True) == _SAID and again.reused == 2
  kept.forget(tmp_path)
  assert again.find(asked, True) is None and not list(tmp_path.iterdir())
  kept.forget(tmp_path)  # Nothing there is nothing to do.


@pytest.mark.parametrize(
    'change',
    [
        {'facts': {**_FACTS, 'checkpoint': 'runs/a/checkpoint_6'}},
        {'facts': {**_FACTS, 'lengths': {'inputs': 9}}},
        {'ranked': False},
        {'asked': _examples(1)},
        {'asked': _examples(2, inputs='!')},
        {'asked': _examples(2, task='u')},
        {'asked': _examples(2, options=('a', 'b'))},
        {'asked': _examples(2)[::-1]},
    ],
)
def test_other_questions_are_asked(tmp_path, change):
  asked = {'facts': _FACTS, 'ranked': True, 'asked': _examples(2), **change}
  kept.Keeper(tmp_path, _FACTS).keep(_examples(2), True, _SAID)
  keeper = kept.Keeper(tmp_path, asked['facts'])
  assert keeper.find(asked['asked'], asked['ranked']) is None


def test_another_host_neither_reads_nor_writes(tmp_path):
  kept.Keeper(tmp_path, _FACTS, first=False).keep(_examples(2), True, _SAID)
  assert not list(tmp_path.iterdir())
  kept.Keeper(tmp_path, _FACTS).keep(_examples(2), True, _SAID)
  other = kept.Keeper(tmp_path, _FACTS, first=False)
  assert other.find(_examples(2), True) is None


def test_a_stopped_evaluation_goes_on(small, tmp_path, monkeypatch):
  monkeypatch.setattr(protocol, '_BLOCK', 7)
  work = protocol.read(
      plan.items(small.tasks, small.trained), small.store, protocol.Rendering()
  )
  asked = []

  def parrot(stop_after):
    def answer(block, ranked, progress):
      if len(asked) >= stop_after:
        raise KeyboardInterrupt
      asked.extend(e.task + e.row_id for e in block)
      progress(len(block))
      return [scoring.Answer(e.task + e.row_id) for e in block]

    return answer

  with pytest.raises(KeyboardInterrupt):
    protocol.answer(
        work, parrot(40), lambda n: None, kept.Keeper(tmp_path, _FACTS)
    )
  first, done = list(asked), []
  asked.clear()
  keeper = kept.Keeper(tmp_path, _FACTS)
  answers = protocol.answer(work, parrot(1000), done.append, keeper)
  total = sum(len(each.examples) for each in work)
  assert keeper.reused == len(first) > 0
  assert sorted(first + asked) == sorted(
      e.task + e.row_id for each in work for e in each.examples
  )
  assert sum(done) == total
  for each, said in zip(work, answers, strict=True):
    assert [a.text for a in said] == [e.task + e.row_id for e in each.examples]
