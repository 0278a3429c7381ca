"""Our tasks as SeqIO's, and SeqIO's tasks as ours.

Both ways there is one implementation. Our tasks are rendered by the same code
and in the same order as in training, and SeqIO gets text to tokenise. A task
that only SeqIO knows is read once into the row store, as the text that its
tokeniser would see, and is a dataset from there on.

Importing this module imports SeqIO and TensorFlow, which takes seconds.
"""

from collections.abc import Iterator, Mapping, Sequence
import copy
import functools
from typing import Any

from absl import logging
from flan_jax import errors
from flan_jax import vocabularies
from flan_jax.data import blocks
from flan_jax.data import catalogue as catalogue_lib
from flan_jax.data import examples as examples_lib
from flan_jax.data import few_shot
from flan_jax.data import mixing
from flan_jax.data import specs
from flan_jax.data import tasks
from flan_jax.data.sources import seqio as seqio_source
import numpy as np
import seqio
import tensorflow as tf

# What a dataset made of a SeqIO task says of its cluster and collection.
COLLECTION = 'seqio'

_RENDERED_AT_ONCE = 256
_TEXTS = seqio_source.TEXTS
# What an example says of itself, as text.
_NAMES = ('task', 'template', 'row_id', 'group')


class RenderedSource(seqio.DataSource):
  """A task's rows, rendered, as examples of text.

  An example has inputs, targets, task, template, row_id, group (what examples
  that are scored together share, '' for none), options (the texts of all
  answers, none for generation), answer_index (-1 for generation) and references
  (all accepted targets). A row's template and order of options
  change with the epoch, and are those of our own pipeline.
  """

  def __init__(
      self,
      task: tasks.Task,
      store: blocks.Store,
      vocabulary: vocabularies.Vocabulary,
      *,
      seed: int = 0,
      cap: int | None = None,
      layout: few_shot.Layout = few_shot.Layout(),  # noqa: B008
  ):
    """Opens nothing yet.

    Args:
      task: What to render.
      store: Where rows are.
      vocabulary: Counts tokens, so that exemplars fit.
      seed: Of all choices. SeqIO's own seeds play no part.
      cap: The most training examples in use.
      layout: How exemplars stand before the query.
    """
    super().__init__(
        splits=tuple(task.dataset.splits), performs_internal_shuffling=True
    )
    self.task = task
    self._store = store
    self._vocabulary = vocabulary
    self._seed = seed
    self._cap = cap
    self._layout = layout
    self._epochs: int | None = 1
    self._lengths: Mapping[str, int] | None = None

  @property
  def supports_arbitrary_sharding(self) -> bool:
    return True

  def list_shards(self, split: str) -> Sequence[str]:
    return [split]

  def num_input_examples(self, split: str) -> int:
    """Returns the number of examples in an epoch."""
    rows = len(self._store.open(self.task.dataset, split))
    cap = self._cap_of(split)
    return rows if cap is None else min(rows, cap)

  def for_run(
      self, epochs: int | None, lengths: Mapping[str, int] | None
  ) -> 'RenderedSource':
    """Returns this source over `epochs` epochs; None is without end.

    Args:
      epochs: How often to go through the rows, each time with new choices.
      lengths: 'inputs' is what exemplars have to fit.
    """
    source = copy.copy(self)
    source._epochs = epochs
    source._lengths = lengths
    return source

  def get_dataset(
      self,
      split: str = 'train',
      shuffle: bool = True,
      seed: int | None = None,
      shard_info: seqio.ShardInfo | None = None,
      **_: Any,
  ) -> tf.data.Dataset:
    """Returns the examples.

    Args:
      split: 'train', 'validation' or 'test'.
      shuffle: Whether each epoch has an order of its own, that of training.
      seed: Plays no part.
      shard_info: Which part of the examples.
    """
    del seed
    texts = tf.TensorSpec([None], tf.string)
    lists = tf.TensorSpec([None, None], tf.string)
    numbers = tf.TensorSpec([None], tf.int32)
    batches = tf.data.Dataset.from_generator(
        functools.partial(self._batches, split, shuffle, shard_info),
        output_signature={
            **{name: texts for name in (*_TEXTS, *_NAMES)},
            'options': lists,
            'num_options': numbers,
            'answer_index': numbers,
            'references': lists,
            'num_references': numbers,
        },
    )
    return batches.unbatch().map(_cut_lists)

  def _cap_of(self, split: str) -> int | None:
    return self._cap if split == 'train' else None

  def _batches(
      self, split: str, shuffle: bool, shard_info: seqio.ShardInfo | None
  ) -> Iterator[dict[str, np.ndarray]]:
    rows = self._store.open(self.task.dataset, split)
    renderer = blocks.renderer(
        self.task,
        rows,
        self._store,
        seed=self._seed,
        vocabulary=self._vocabulary if self._lengths else None,
        lengths=self._lengths,
        layout=self._layout,
    )
    order = mixing.IndexMap(
        [self.task.name],
        [len(rows)],
        [1.0],
        seed=self._seed,
        cap=self._cap_of(split),
        shuffle=shuffle,
    )
    first = shard_info.index if shard_info else 0
    step = shard_info.num_shards if shard_info else 1
    stop = None if self._epochs is None else self._epochs * int(order.sizes[0])
    while stop is None or first < stop:
      after = first + step * _RENDERED_AT_ONCE
      last = after if stop is None else min(after, stop)
      draws = order.lookup(np.arange(first, last, step))
      yield _columns(renderer.render(draws.row, draws.epoch))
      first = after


class RenderedTask(seqio.Task):
  """A SeqIO task over a `RenderedSource`.

  SeqIO repeats a source by reading it again; this one goes on to the next
  epoch, which has other templates.
  """

  def get_dataset(
      self,
      sequence_length: Mapping[str, int] | None = None,
      split: str = 'train',
      use_cached: bool = False,
      shuffle: bool = True,
      shuffle_buffer_size: int | None = None,
      seed: int | None = None,
      shard_info: seqio.ShardInfo | None = None,
      num_epochs: int | None = 1,
      trim_output_features: bool = True,
      try_in_mem_cache: bool = True,
  ) -> tf.data.Dataset:
    """See `seqio.Task.get_dataset`."""
    kwargs = dict(
        sequence_length=sequence_length,
        split=split,
        use_cached=use_cached,
        shuffle=shuffle,
        shuffle_buffer_size=shuffle_buffer_size,
        seed=seed,
        shard_info=shard_info,
        trim_output_features=trim_output_features,
    )
    if use_cached or not isinstance(self.source, RenderedSource):
      return super().get_dataset(
          num_epochs=num_epochs, try_in_mem_cache=try_in_mem_cache, **kwargs
      )
    # A plain seqio.Task, so that this method is not called again.
    task = self.replace(source=self.source.for_run(num_epochs, sequence_length))
    return task.get_dataset(
        num_epochs=1,
        try_in_mem_cache=try_in_mem_cache and num_epochs == 1,
        **kwargs,
    )


class _SentencePiece(seqio.SentencePieceVocabulary):
  """SeqIO's vocabulary, with our ids for the one character that differs.

  SentencePiece writes a space as U+2581 and so reads U+2581 as a space; our
  lossless models spell it in bytes (`vocabularies.train_sentencepiece`).
  """

  _SPACE_SYMBOL = '\u2581'

  def _encode(self, s: str) -> Sequence[int]:
    if self._SPACE_SYMBOL in s:
      return _own_sentencepiece(
          self.sentencepiece_model_file, self.extra_ids
      ).encode(s)
    return super()._encode(s)

  def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
    s = tf.convert_to_tensor(s)
    if s.shape.rank != 0:
      return super()._encode_tf(s)

    def encode(text: bytes | np.ndarray) -> np.ndarray:
      # Bytes in a graph, an array that holds bytes outside of one.
      written = text if isinstance(text, bytes) else text.item()
      return np.asarray(self._encode(written.decode()), np.int32)

    def spelled() -> tf.Tensor:
      ids = tf.numpy_function(encode, [s], tf.int32)
      ids.set_shape([None])
      return ids

    special = tf.strings.regex_full_match(s, f'(?s).*{self._SPACE_SYMBOL}.*')
    plain = super()._encode_tf
    return tf.cond(special, spelled, lambda: plain(s))


@functools.lru_cache
def _own_sentencepiece(
    path: str, extra_ids: int
) -> vocabularies.SentencePieceVocabulary:
  return vocabularies.SentencePieceVocabulary(path, extra_ids)


def seqio_vocabulary(vocabulary: vocabularies.Vocabulary) -> seqio.Vocabulary:
  """Returns SeqIO's vocabulary with the same ids as one of ours.

  Raises:
    UserError: It keeps what SeqIO's loses.
    ValueError: SeqIO has no such kind.
  """
  if isinstance(vocabulary, vocabularies.SentencePieceVocabulary):
    if vocabulary.kept:
      raise errors.UserError(
          f'{vocabulary.path}: SeqIO, and T5X with it, cannot keep'
          f' {", ".join(vocabulary.keep)}; leave ?keep=... out there'
      )
    return _SentencePiece(str(vocabulary.path), vocabulary.extra_ids)
  if isinstance(vocabulary, vocabularies.ByteVocabulary):
    return seqio.ByteVocabulary(vocabulary.extra_ids)
  raise ValueError(f'SeqIO has no {type(vocabulary).__name__}.')


def example_of(features: Mapping[str, Any]) -> examples_lib.Example:
  """Returns the example that `RenderedSource` made features of.

  Args:
    features: Numpy values, as `tfds.as_numpy` gives them; text may have been
      tokenised, if a copy is under '<name>_pretokenized'.
  """

  def text(name: str) -> str:
    return _text(features.get(f'{name}_pretokenized', features.get(name)))

  options = tuple(_text(option) for option in features['options'])
  answer = int(features['answer_index'])
  return examples_lib.Example(
      task=text('task'),
      template=text('template'),
      row_id=text('row_id'),
      inputs=text('inputs'),
      targets=text('targets'),
      options=options or None,
      answer_index=None if answer < 0 else answer,
      references=tuple(_text(one) for one in features['references']),
      # Not in what was cached before examples had groups.
      group=text('group') if 'group' in features else '',
  )


def _columns(
    rendered: Sequence[examples_lib.Example],
) -> dict[str, np.ndarray]:
  """Returns examples as a batch; lists are filled up to the longest."""
  options, num_options = _table([each.options or () for each in rendered])
  references, num_references = _table([each.references for each in rendered])
  return {
      **{
          name: np.array(
              [str(getattr(each, name)).encode() for each in rendered], object
          )
          for name in (*_TEXTS, *_NAMES)
      },
      'options': options,
      'num_options': num_options,
      'answer_index': np.array(
          [
              -1 if each.answer_index is None else each.answer_index
              for each in rendered
          ],
          np.int32,
      ),
      'references': references,
      'num_references': num_references,
  }


def _table(lists: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
  sizes = np.array([len(texts) for texts in lists], np.int32)
  table = np.full((len(lists), int(sizes.max(initial=0))), b'', object)
  for row, texts in zip(table, lists, strict=True):
    row[: len(texts)] = [text.encode() for text in texts]
  return table, sizes


def _cut_lists(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  """Takes away what filled the lists up."""
  features = dict(features)
  for name in ('options', 'references'):
    size = features.pop(f'num_{name}')
    features[name] = features[name][:size]
  return features


def _text(value: Any) -> str:
  return value.decode() if isinstance(value, bytes) else str(value)


def add_registered(catalogue: catalogue_lib.Catalogue) -> None:
  """Adds what is registered with SeqIO to a catalogue.

  A name that the catalogue has already keeps its meaning.
  """
  for registry, is_mixture, read in (
      (seqio.TaskRegistry, False, dataset),
      (seqio.MixtureRegistry, True, mixture),
  ):
    for name in list(registry.names()):
      if _is_ours(registry.get(name)):
        continue
      if not catalogue.add(
          name, is_mixture, functools.partial(read, name), COLLECTION
      ):
        logging.warning(
            "SeqIO's '%s' has the name of a dataset or mixture of flan_jax,"
            ' which is meant by it',
            name,
        )


def dataset(name: str) -> specs.Dataset:
  """Returns a SeqIO task as a dataset, whose examples are as they are.

  Raises:
    UserError: The task has no targets, or no split that we know.
  """
  task = seqio.TaskRegistry.get(name)
  splits = {split: split for split in specs.SPLITS if split in task.splits}
  if not splits:
    raise errors.UserError(
        f"SeqIO task '{name}': splits: has {', '.join(task.splits)}; one must"
        f' be called {" or ".join(specs.SPLITS)}'
    )
  seqio_source.readers(task)
  return specs.Dataset(
      name=name,
      cluster=COLLECTION,
      collection=COLLECTION,
      source=specs.Source(kind='seqio', where=name),
      splits=splits,
      fields={text: text for text in _TEXTS},
      metrics=('exact_match',),
      templates=(
          specs.Template(
              name='as_given', inputs='{inputs}', targets='{targets}'
          ),
      ),
      description='A SeqIO task.',
  )


def mixture(name: str) -> specs.MixtureSpec:
  """Returns a SeqIO mixture, with its rates, as one of ours."""
  found = seqio.MixtureRegistry.get(name)
  return specs.MixtureSpec(
      name=name,
      description='A SeqIO mixture.',
      members=tuple(
          specs.Member(name=task.name, weight=float(found.get_rate(task)))
          for task in found.tasks
      ),
      rates=specs.Rates(kind='explicit'),
  )


def _is_ours(provider: Any) -> bool:
  if isinstance(provider, seqio.Mixture):
    return all(isinstance(task, RenderedTask) for task in provider.tasks)
  return isinstance(provider, RenderedTask)
