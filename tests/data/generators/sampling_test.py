"""Splits that share no row, the same for the same seed."""

import random

from flan_jax.data.generators import sampling
import pytest

_SIZES = {'test': 20, 'validation': 10, 'train': 50}


def _draw(rng: random.Random, place: int) -> sampling.Row:
  return {'number': str(rng.randrange(100)), 'parity': str(place % 2)}


def _rows(split: str, seed: int = 0, name: str = 'numbers') -> list:
  return list(
      sampling.draw_rows(
          _draw,
          name=name,
          split=split,
          seed=seed,
          key=lambda row: row['number'],
          sizes=_SIZES,
      )
  )


def test_splits_share_no_row_and_have_their_sizes():
  numbers = {split: {r['number'] for r in _rows(split)} for split in _SIZES}
  assert {split: len(found) for split, found in numbers.items()} == _SIZES
  assert len(set.union(*numbers.values())) == 80


def test_a_seed_gives_the_same_rows_and_another_gives_others():
  assert _rows('train') == _rows('train')
  assert _rows('train') != _rows('train', seed=1)
  assert _rows('train') != _rows('train', name='others')


def test_a_split_does_not_depend_on_reading_another_first():
  generator = sampling.draw_rows(
      _draw, name='numbers', split='test', seed=0, sizes=_SIZES
  )
  next(generator)
  assert _rows('validation') == _rows('validation')


def test_the_place_balances_each_split():
  for split, size in _SIZES.items():
    ones = [row['parity'] for row in _rows(split)].count('1')
    assert ones == size // 2


def test_too_few_different_rows_and_unknown_splits_are_errors():
  with pytest.raises(ValueError, match='no 2 different rows'):
    list(
        sampling.draw_rows(
            lambda rng, place: {'always': 'the same'},
            name='one',
            split='test',
            seed=0,
        )
    )
  with pytest.raises(ValueError, match="no split 'dev'"):
    _rows('dev')


def test_a_group_of_rows_is_never_divided():
  rows: list[sampling.Row] = [
      {'pair': str(i // 4), 'row': str(i)} for i in range(100)
  ]
  splits = {
      split: list(
          sampling.divide(
              rows,
              name='pairs',
              split=split,
              seed=0,
              group=lambda row: row['pair'],
              shares={'test': 0.2, 'validation': 0.1},
          )
      )
      for split in ('train', 'validation', 'test')
  }
  assert [len(splits[s]) for s in ('train', 'validation', 'test')] == [
      72,
      8,
      20,
  ]
  pairs = [{row['pair'] for row in found} for found in splits.values()]
  assert sum(map(len, pairs)) == len(set.union(*pairs)) == 25
  every = [row['row'] for found in splits.values() for row in found]
  assert sorted(every, key=int) == [row['row'] for row in rows]
  with pytest.raises(ValueError, match="no split 'dev'"):
    list(
        sampling.divide(
            rows,
            name='pairs',
            split='dev',
            seed=0,
            group=lambda row: row['pair'],
            shares={},
        )
    )
