"""How training data scale with worker processes.

  python benchmarks/workers.py --tfds_data_dir=../shared/tfds [--runs=5]

Packed batches of the twelve datasets, 1,024 tokens of inputs and 256 of
targets: tokens a second (padding not counted) with one and with two worker
processes, in turn; median of several runs. Needs as many cores as the most
workers, with nothing else on them. The peer is one process that does all.
"""

import argparse
import statistics
import time

import twelve

_WARM_UP = 12
_BATCH_SIZE = 256


def _rate(
    data: twelve.Twelve, workers: int, setting: str, batches: int
) -> tuple[float, float]:
  """Returns tokens a second, and this process's CPU-us an example."""
  running = data.pipeline(setting, batch_size=_BATCH_SIZE, workers=workers)
  for _ in range(_WARM_UP):
    next(running)
  tokens = examples = 0
  begin, cpu = time.perf_counter(), time.process_time()
  kept = [next(running) for _ in range(batches)]
  seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
  for batch in kept:
    for side in ('encoder', 'decoder'):
      tokens += int((batch[f'{side}_segment_ids'] > 0).sum())
    examples += int(batch['encoder_segment_ids'].max(axis=1).sum())
  running.close()
  return tokens / seconds, cpu / examples * 1e6


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  twelve.add_flags(parser)
  parser.add_argument('--runs', type=int, default=5)
  parser.add_argument('--batches', type=int, default=60)
  parser.add_argument('--workers', type=int, nargs='+', default=[0, 1, 2])
  args = parser.parse_args()
  data = twelve.load(args)
  print(
      '| shots | workers | tokens/s | times one worker | CPU-us an example of'
      ' the process that asks |'
  )
  print('| ---: | ---: | ---: | ---: | ---: |')
  for shots, setting in ((0, ''), (5, ':5_shot')):
    found: dict[int, list[tuple[float, float]]] = {w: [] for w in args.workers}
    for _ in range(args.runs):
      for workers in args.workers:
        found[workers].append(_rate(data, workers, setting, args.batches))
    rates = {
        workers: statistics.median(rate for rate, _ in runs)
        for workers, runs in found.items()
    }
    for workers, rate in rates.items():
      own = statistics.median(cpu for _, cpu in found[workers])
      times = f'{rate / rates[1]:.2f}' if 1 in rates else '-'
      print(f'| {shots} | {workers} | {rate:,.0f} | {times} | {own:.1f} |')


if __name__ == '__main__':
  main()
