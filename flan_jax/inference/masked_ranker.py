"""Options by pseudo-likelihood or a trained head, for encoders alone.

The pseudo-log-likelihood of a text is the sum, over its tokens, of log p of
each given all others (arXiv 1910.14659, equation 2): each token is masked once,
in a row of its own. Here the text is an option, after the inputs:

    [CLS] inputs [SEP] option [SEP]

where the option and its end have type 1, as `transformers` lays out pairs. The
end is not scored, unless the option has no other token.

A head that was trained to score takes the same row, once, with no mask.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flan_jax import errors
from flan_jax import vocabularies
from flan_jax.inference import batching
from flan_jax.inference import ranker
from flan_jax.inference import running
from flan_jax.models import encoder_only
import jax
import numpy as np

Progress = Callable[[int], Any]

# So many rows tell which shapes there should be.
_MOST_PLANNED = 65_536


def scored(ids: Sequence[int]) -> int:
  """Returns how many tokens of an option, ids that end in EOS, are masked."""
  return max(len(ids) - 1, 1)


class _Rows(NamedTuple):
  """The rows of all options of all inputs, one for each token that is masked.

  Or one for each option, where nothing is.

  Attributes:
    example: For each option the place of its inputs, int [options].
    option: Its place among those of the same inputs, int [options].
    begin: Its first row, int [options].
    owner: The option of each row, int [rows].
    place: Which of its tokens is masked, int [rows].
    length: The tokens of the row, int [rows].
  """

  example: np.ndarray
  option: np.ndarray
  begin: np.ndarray
  owner: np.ndarray
  place: np.ndarray
  length: np.ndarray


def _rows(
    inputs: Sequence[Sequence[int]],
    options: Sequence[Sequence[Sequence[int]]],
    masks: bool,
) -> _Rows:
  """Lays out rows, in the order of inputs, options and tokens."""
  pairs = [
      (i, k, 1 + len(inputs[i]) + len(ids), scored(ids) if masks else 1)
      for i, own in enumerate(options)
      for k, ids in enumerate(own)
  ]
  example, option, length, count = np.asarray(pairs, int).reshape(-1, 4).T
  begin = np.cumsum(count) - count
  owner = np.repeat(np.arange(len(count)), count)
  place = np.arange(len(owner)) - begin[owner]
  return _Rows(example, option, begin, owner, place, length[owner])


class MaskedRanker:
  """Does what `ranker.Ranker` does, by pseudo-likelihood."""

  def __init__(
      self,
      model: encoder_only.EncoderOnly,
      vocabulary: vocabularies.Vocabulary,
      *,
      runner: running.Runner,
      lengths: dict[str, int],
  ):
    """Compiles nothing yet.

    Args:
      model: The model.
      vocabulary: What it was trained with.
      runner: The devices.
      lengths: The most tokens of 'inputs' and of 'targets'.

    Raises:
      UserError: Rows may have more tokens than the model has positions, or the
        vocabulary knows no mask.
    """
    longest = 1 + lengths['inputs'] + lengths['targets']
    most = model.config.max_positions
    if longest > most:
      raise errors.UserError(
          f'TASK_FEATURE_LENGTHS: {lengths["inputs"]:,} tokens of inputs and'
          f' {lengths["targets"]:,} of an option stand in one row, after'
          f' another token, and the model has {most:,} positions; make them'
          f' {longest - most:,} shorter'
      )
    self._begin_id = _special(vocabulary, 'cls_token')
    self._masks = model.config.head == 'masked'
    if self._masks:
      self._mask_id = _special(vocabulary, 'mask_token')
    self._types = model.config.num_types
    self._runner = runner
    self._lengths = batching.ladder(longest)

    def scores(params, batch):
      place_B, target_B = batch.pop('place'), batch.pop('target')
      if model.config.head == 'score':
        return model.row_scores(params, batch)
      return model.log_probability(params, batch, place_B, target_B)

    self._compiled = jax.jit(scores)

  def scored(self, ids: Sequence[int]) -> int:
    """Returns how many tokens of an option its score is a sum over."""
    return scored(ids)

  def plan(
      self,
      inputs: Sequence[Sequence[int]],
      options: Sequence[Sequence[Sequence[int]]],
  ) -> list[batching.Batch]:
    """Returns batches, of every row or, if they are many, of some."""
    distinct = [ranker.distinct(own) for own in options]
    length = _rows(inputs, distinct, self._masks).length
    return self._plan(length[:: -(-len(length) // _MOST_PLANNED) or 1])

  def _plan(self, length: np.ndarray) -> list[batching.Batch]:
    return self._runner.planner.plan('rank', length[:, None], [self._lengths])

  def log_likelihoods(
      self,
      params: Any,
      inputs: Sequence[Sequence[int]],
      options: Sequence[Sequence[Sequence[int]]],
      progress: Progress | None = None,
  ) -> list[np.ndarray]:
    """Returns the pseudo-log-likelihood of each option of each input, float64.

    Or what the trained head says of it.

    Args:
      params: The model's parameters.
      inputs: Ids that end in EOS, no more than lengths['inputs'].
      options: For each input at least one option; ids that end in EOS, no more
        than lengths['targets'].
      progress: Called with the number of inputs that each batch finishes.
    """
    distinct = [ranker.distinct(own) for own in options]
    rows = _rows(inputs, distinct, self._masks)

    def launch(batch: batching.Batch) -> jax.Array:
      self._runner.note('rank', batch.rows, batch.shape)
      features = self._features(batch, rows, inputs, distinct)
      return self._compiled(params, self._runner.put(features))

    log_p = np.zeros(len(rows.owner))
    left = np.bincount(rows.example[rows.owner], minlength=len(inputs))
    for batch, log_p_B in self._runner.run(self._plan(rows.length), launch):
      own = np.asarray(batch.indices, int)
      log_p[own] = log_p_B[: len(own)]
      self._runner.tokens.read += int(rows.length[own].sum())
      touched, counts = np.unique(
          rows.example[rows.owner[own]], return_counts=True
      )
      left[touched] -= counts
      if progress:
        progress(int((left[touched] == 0).sum()))
    scores = np.add.reduceat(log_p, rows.begin) if len(rows.begin) else log_p
    # Scores are in the order of inputs, and of their options.
    ends = np.cumsum([len(once) for once in distinct])
    return [
        ranker.of_each(own, once, scores[end - len(once) : end])
        for own, once, end in zip(options, distinct, ends, strict=True)
    ]

  def unconditional(
      self,
      params: Any,
      premise: Sequence[int],
      options: Sequence[Sequence[int]],
  ) -> np.ndarray:
    """Returns the same of each option after the premise, float64."""
    if not options:
      return np.zeros(0)
    return self.log_likelihoods(params, [premise], [options])[0]

  def _features(
      self,
      batch: batching.Batch,
      rows: _Rows,
      inputs: Sequence[Sequence[int]],
      options: Sequence[Sequence[Sequence[int]]],
  ) -> dict[str, np.ndarray]:
    """Returns a batch's rows, with their masks, and what stood there."""
    shape = (batch.rows, *batch.shape)
    tokens_BxT = np.zeros(shape, np.int32)
    types_BxT = np.zeros(shape, np.int32)
    place_B = np.zeros(batch.rows, np.int32)
    for b, row in enumerate(batch.indices):
      owner = rows.owner[row]
      read = inputs[rows.example[owner]]
      ids = [
          self._begin_id,
          *read,
          *options[rows.example[owner]][rows.option[owner]],
      ]
      tokens_BxT[b, : len(ids)] = ids
      if self._types > 1:
        types_BxT[b, 1 + len(read) : len(ids)] = 1
      place_B[b] = 1 + len(read) + rows.place[row]
    row_B = np.arange(batch.rows)
    target_B = tokens_BxT[row_B, place_B]
    if self._masks:
      tokens_BxT[row_B, place_B] = self._mask_id
    return {
        'encoder_input_tokens': tokens_BxT,
        'encoder_token_types': types_BxT,
        'place': place_B,
        'target': target_B,
    }


def _special(vocabulary: vocabularies.Vocabulary, name: str) -> int:
  """Returns the id of a token that rows need besides those of texts.

  Raises:
    UserError: The vocabulary knows of none.
  """
  found = None
  if isinstance(vocabulary, vocabularies.TokenizerVocabulary):
    found = vocabulary.special_id(name)
  if found is None:
    raise errors.UserError(
        f'VOCABULARY: has no "{name}", which an encoder-only model needs; take'
        " the folder that holds the model's own tokenizer.json"
    )
  return found
