"""What it costs to find an example's place in a mixture, by its members.

  python benchmarks/order.py

Our order and Grain's own mixing in the same process, CPU-microseconds an
example; least of five runs.
"""

import time

from flan_jax.data import mixing
import numpy as np

MEMBERS = (1, 12, 400, 1836)
BLOCK = 512
BLOCKS = 24
FEW = 1000  # Places that Grain looks up.
REPEATS = 5


def _ours(names, sizes, rates) -> tuple[float, float]:
  """Returns seconds to the first place, and of all blocks."""
  begin = time.process_time()
  index_map = mixing.IndexMap(names, sizes, rates)
  index_map.lookup(np.arange(1))
  start = time.process_time() - begin
  costs = []
  for _ in range(REPEATS):
    begin = time.process_time()
    for block in range(BLOCKS):
      index_map.lookup(np.arange(block * BLOCK, (block + 1) * BLOCK))
    costs.append(time.process_time() - begin)
  return start, min(costs)


def _grains(sizes, rates) -> float:
  import grain

  mixed = grain.MapDataset.mix(
      [grain.MapDataset.range(size).shuffle(seed=0).repeat() for size in sizes],
      weights=(rates / rates.sum()).tolist(),
  )
  costs = []
  for _ in range(REPEATS):
    begin = time.process_time()
    for place in range(FEW):
      mixed[place]
    costs.append(time.process_time() - begin)
  return min(costs)


def main() -> None:
  print('| members | start, ms | our order, us | Grain mix, us |')
  print('| ---: | ---: | ---: | ---: |')
  for count in MEMBERS:
    sizes = np.arange(count) % 97 * 1000 + 500
    rates = np.minimum(sizes, 30_000) / 30_000
    start, ours = _ours([f'm{i}' for i in range(count)], sizes, rates)
    grains = _grains(sizes, rates)
    print(
        f'| {count:,} | {start * 1e3:.1f} | {ours / BLOCKS / BLOCK * 1e6:.2f} |'
        f' {grains / FEW * 1e6:.0f} |'
    )


if __name__ == '__main__':
  main()
