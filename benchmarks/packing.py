"""How much of packed rows is tokens, and what packing costs.

  python benchmarks/packing.py --tfds_data_dir=../shared/tfds

Examples of the twelve datasets together, tokenised once; the same ids go
through our packing, in blocks as the pipeline has them, and through SeqIO's
(`EncDecFeatureConverter(pack=True)`, or `DecoderFeatureConverter` for rows of
inputs and targets as one sequence, which pack greedily in order of arrival). No
example is split or dropped by either. CPU-microseconds an example of this
process, held to one core.
"""

import argparse
import time

from flan_jax import vocabularies
from flan_jax.data import blocks
from flan_jax.data import mixing
from flan_jax.data import mixtures
from flan_jax.data import packing
import numpy as np
import twelve

EXAMPLES = 16_384
LENGTHS = ({'inputs': 1024, 'targets': 256}, {'inputs': 512, 'targets': 128})
BLOCKS = (512, 2048)

# Name, share of the encoder's and of the decoder's places, microseconds.
_Line = tuple[str, float | None, float, float]


def _tokens(
    data: twelve.Twelve, setting: str, lengths: dict[str, int]
) -> list[list[np.ndarray]]:
  """Returns the ids of inputs and of targets, without ends."""
  mixture = data.mixture(setting)
  members = blocks.Members(
      mixture, 'train', data.vocabulary, data.store, lengths, 0
  )
  sizes = members.sizes()
  order = mixing.IndexMap(
      [task.name for task, _ in mixture.members],
      sizes,
      mixtures.rates(mixture, sizes),
      cap=mixture.caps,
  )
  sides = members.texts(order.lookup(np.arange(EXAMPLES)))
  return [data.vocabulary.encode_arrays(side) for side in sides]


def _ours(
    ids: list[list[np.ndarray]],
    lengths: dict[str, int],
    block: int,
    form: packing.Form,
) -> _Line:
  parts = [
      [
          packing.Ragged(*vocabularies.joined(side[first : first + block]))
          for side in ids
      ]
      for first in range(0, EXAMPLES, block)
  ]
  begin = time.process_time()
  packed = [
      packing.pack(*both, lengths, dtype=np.uint16, form=form) for both in parts
  ]
  cost = (time.process_time() - begin) / EXAMPLES * 1e6
  whole = packing.features(np.concatenate(packed), lengths, form)
  fills = {
      side: (whole[f'{side}_segment_ids'] > 0).mean()
      for side in form.positions(lengths)
  }
  name = f'ours, {_name(form)}, blocks of {block}'
  return name, fills.get('encoder'), fills['decoder'], cost


def _name(form: packing.Form) -> str:
  return 'one side' if form.joined else 'two sides'


def _seqio(
    ids: list[list[np.ndarray]], lengths: dict[str, int], form: packing.Form
) -> _Line:
  import seqio
  import tensorflow as tf

  def examples():
    for inputs, targets in zip(*ids, strict=True):
      yield {
          'inputs': np.append(inputs[: lengths['inputs'] - 1], 1),
          'targets': np.append(targets[: lengths['targets'] - 1], 1),
      }

  data = tf.data.Dataset.from_generator(
      examples,
      output_signature={n: tf.TensorSpec([None], tf.int32) for n in lengths},
  )
  converter = (
      seqio.DecoderFeatureConverter(pack=True)
      if form.joined
      else seqio.EncDecFeatureConverter(pack=True)
  )
  begin = time.process_time()
  rows = list(converter(data, lengths).as_numpy_iterator())
  cost = (time.process_time() - begin) / EXAMPLES * 1e6
  fills = {
      side: float(np.mean([row[f'{side}_segment_ids'] > 0 for row in rows]))
      for side in form.positions(lengths)
  }
  return f'SeqIO, {_name(form)}', fills.get('encoder'), fills['decoder'], cost


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  twelve.add_flags(parser)
  parser.add_argument('--no_seqio', action='store_true', help='skip the peer')
  args = parser.parse_args()
  data = twelve.load(args)
  twelve.one_core()
  print(
      '| shots | lengths | packing | encoder filled | decoder filled |'
      ' CPU-us an example |'
  )
  print('| ---: | ---: | --- | ---: | ---: | ---: |')
  for shots, setting in ((0, ''), (5, ':5_shot')):
    for lengths in LENGTHS:
      ids = _tokens(data, setting, lengths)
      lines: list[_Line] = []
      for form in packing.FORMS.values():
        lines += [_ours(ids, lengths, block, form) for block in BLOCKS]
        if not args.no_seqio:
          lines.append(_seqio(ids, lengths, form))
      size = f'{lengths["inputs"]:,}/{lengths["targets"]}'
      for name, encoder, decoder, cost in lines:
        first = '' if encoder is None else f'{encoder:.1%}'
        print(
            f'| {shots} | {size} | {name} | {first} | {decoder:.1%} |'
            f' {cost:.1f} |',
            flush=True,
        )


if __name__ == '__main__':
  main()
