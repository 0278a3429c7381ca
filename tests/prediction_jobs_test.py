"""How the examples of a command are cut into blocks and shared out."""

import types

from flan_jax import prediction_jobs
from flan_jax.inference import output
from hypothesis import given
from hypothesis import strategies as st
import pytest


def _job(size, name='job'):
  def examples(places):
    return [f'{name}:{place}' for place in places]

  return types.SimpleNamespace(
      name=name, size=size, evaluation='rank', open=lambda: examples
  )


@given(
    sizes=st.lists(st.integers(0, 60), max_size=6),
    block=st.integers(1, 9),
    count=st.integers(1, 8),
)
def test_shards_together_have_everything_once(sizes, block, count):
  jobs = [_job(size) for size in sizes]
  whole = [list(range(size)) for size in sizes]
  found: list[list[int]] = [[] for _ in sizes]
  blocks = []
  for index in range(count):
    shares = prediction_jobs.shares(
        jobs, block, output.Shard(index, count).share
    )
    assert [share.job for share in shares] == jobs
    blocks.append(0)
    for share, places in zip(shares, found, strict=True):
      places += range(share.first, share.last)
      assert len(share) == share.last - share.first >= 0
      # Blocks are whole, so that they are the same for any number of shards.
      assert share.first % block == 0 or not len(share)
      assert share.last % block == 0 or share.last == share.job.size
      blocks[-1] += -(-len(share) // block)
  assert found == whole
  assert max(blocks) - min(blocks) <= 1


@pytest.mark.parametrize('sizes', [(3, 100_000), (0, 7), (50,) * 500])
def test_a_sample_is_of_all_jobs(sizes):
  jobs = [_job(size, str(i)) for i, size in enumerate(sizes)]
  sample = prediction_jobs.sample(jobs)
  assert len(sample) == len(jobs)
  for (examples, evaluation, times), job in zip(sample, jobs, strict=True):
    assert evaluation == 'rank' and times >= 1
    assert len(set(examples)) == len(examples) <= job.size
    assert len(examples) >= min(job.size, 8)
    if job.size:  # From its first to its last.
      assert examples[0] == f'{job.name}:0'
      assert examples[-1] == f'{job.name}:{job.size - 1}'
  taken = sum(len(examples) for examples, _, _ in sample)
  assert taken <= 20_000
  stood_for = sum(len(examples) * times for examples, _, times in sample)
  assert stood_for <= 140_000
