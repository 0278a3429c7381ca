"""An encoder alone, BERT, which says what stands at a masked place.

It ranks: what is read first and an option stand in one row, the tokens of the
option are masked in turn, and the logarithms of what the model gives each of
them are added up (pseudo-likelihood, arXiv 1910.14659). Or a head that was
trained for it makes a number of the row. The numbers are those of Hugging
Face's `transformers`.
"""

from typing import Any, NoReturn

from flan_jax import errors
from flan_jax.models import config as config_lib
from flan_jax.models import family
from flan_jax.models import interface
from flan_jax.models import losses
from flan_jax.models import masked
import jax
import jax.numpy as jnp


class EncoderOnly(family.Family):
  """See `interface.Model`, of which it has what is not writing or training.

  A batch has encoder_input_tokens, one example a row, padded with 0, and
  encoder_token_types, which is 0 everywhere where it is not there.
  """

  config: config_lib.EncoderConfig

  def __init__(self, config: config_lib.EncoderConfig):
    super().__init__(config, masked.MaskedTransformer, 0)

  def _read(
      self,
      params: interface.Params,
      batch: interface.Batch,
      dropout_rng: jax.Array | None,
      head: bool,
  ) -> jax.Array:
    """Returns logits [B, T, V] or, without `head`, hidden states [B, T, E]."""
    if dropout_rng is not None:
      self._refuse('cannot be trained')
    if head:
      self._check_head('masked')
    return self._apply(params, *self._row(batch), head=head)

  def hidden_states(
      self, params: interface.Params, batch: interface.Batch
  ) -> jax.Array:
    """Returns the last layer's output [B, T, E], in the model's dtype."""
    return self._read(params, batch, None, False)

  def log_probability(
      self,
      params: interface.Params,
      batch: interface.Batch,
      place_B: jax.Array,
      target_B: jax.Array,
  ) -> jax.Array:
    """Returns log p of a token at one place of each row, float32 [B].

    Args:
      params: The parameters.
      batch: The rows, with the mask at the place.
      place_B: int32, the place of each row.
      target_B: int32, the token that stands there.
    """
    self._check_head('masked')
    logits_BxV = self._apply(params, *self._row(batch), place_B)
    return losses.log_probabilities(logits_BxV[None], target_B[None])[0]

  def row_scores(
      self, params: interface.Params, batch: interface.Batch
  ) -> jax.Array:
    """Returns the trained head's number of each row, float32 [B]."""
    self._check_head('score')
    return self._apply(params, *self._row(batch))

  def _check_head(self, wanted: str) -> None:
    if self.config.head != wanted:
      raise errors.UserError(
          f'EncoderConfig.head: is {self.config.head!r}, and {wanted!r} is'
          ' needed'
      )

  def _row(self, batch: interface.Batch) -> tuple[jax.Array, jax.Array]:
    """Returns the rows' tokens and types.

    Raises:
      UserError: There are more of them than positions.
    """
    tokens_BxT = batch['encoder_input_tokens']
    length, most = tokens_BxT.shape[1], self.config.max_positions
    if length > most:
      raise errors.UserError(
          f'EncoderConfig.max_positions: the model has {most:,} learned'
          f' positions, and rows have {length:,} tokens'
      )
    types_BxT = batch.get('encoder_token_types')
    if types_BxT is None:
      types_BxT = jnp.zeros_like(tokens_BxT)
    return tokens_BxT, types_BxT

  def _init_arguments(self, ones_Bx1: jax.Array) -> tuple[Any, ...]:
    return ones_Bx1, jnp.zeros_like(ones_Bx1)

  def _refuse(self, what: str) -> NoReturn:
    raise errors.UserError(
        f'MODEL: an encoder-only model {what}; it ranks the options that an'
        ' example has'
    )

  def loss(self, *_: Any, **__: Any) -> NoReturn:
    """Raises a UserError: there is no training."""
    self._refuse('cannot be trained')

  def encode(self, *_: Any) -> NoReturn:
    """Raises a UserError: inputs are read with each option."""
    self._refuse('cannot read inputs apart from options')

  def steps(self, *_: Any) -> NoReturn:
    """Raises a UserError: it writes nothing."""
    self._refuse('cannot write')

  def step_params(self, *_: Any) -> NoReturn:
    """Raises a UserError: it writes nothing."""
    self._refuse('cannot write')

  def init_cache(self, *_: Any, **__: Any) -> NoReturn:
    """Raises a UserError: it writes nothing."""
    self._refuse('cannot write')

  def start(self, *_: Any) -> NoReturn:
    """Raises a UserError: it writes nothing."""
    self._refuse('cannot write')

  def decode_step(self, *_: Any, **__: Any) -> NoReturn:
    """Raises a UserError: it writes nothing."""
    self._refuse('cannot write')

  def score(self, *_: Any) -> NoReturn:
    """Raises a UserError: options are scored by `log_probability`."""
    self._refuse('cannot score options from left to right')
