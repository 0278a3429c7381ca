"""What the trainer, decoding and ranking know of a model, and nothing more.

Shapes are written as suffixes: B batch, S encoder length, T decoder length,
V vocabulary, H heads, D width of a head.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from flan_jax import errors
from flan_jax.models import config as config_lib
from flan_jax.models import losses
import jax

# A batch of features under SeqIO's names, int32 [rows, length].
Batch = Mapping[str, Any]
# A nested dict of float32 arrays; layers are stacked on axis 0.
Params = Any


class Context(NamedTuple):
  """What the decoder attends to, computed once for an input.

  Attributes:
    cross_key: [layers, B, H, D, S], in the model's dtype.
    cross_value: [layers, B, H, D, S], in the model's dtype.
    mask_BxS: bool, True where there is a token.
  """

  cross_key: jax.Array
  cross_value: jax.Array
  mask_BxS: jax.Array


class Cache(NamedTuple):
  """Keys and values of the decoder's self-attention so far.

  Attributes:
    key: [layers, B, H, D, T], in the model's dtype.
    value: [layers, B, H, D, T], in the model's dtype.
    position: int32 scalar, the number of tokens written; the same for all rows.
  """

  key: jax.Array
  value: jax.Array
  position: jax.Array


class Model(Protocol):
  """A model as pure functions of its parameters; all can be jitted."""

  @property
  def config(self) -> config_lib.EncoderDecoderConfig:
    """What it was made from."""

  def init(self, rng: jax.Array) -> Params:
    """Returns new float32 parameters."""

  def abstract_params(self) -> Params:
    """Returns the parameters' shapes and dtypes, as `jax.ShapeDtypeStruct`."""

  def logical_axes(self) -> Params:
    """Returns the parameters' tree with a tuple of axis names at each leaf."""

  def stacked(self) -> Params:
    """Returns the parameters' tree with True where axis 0 counts layers."""

  def logits(
      self,
      params: Params,
      batch: Batch,
      *,
      dropout_rng: jax.Array | None = None,
  ) -> jax.Array:
    """Returns float32 logits [B, T, V] of the target tokens."""

  def loss(
      self,
      params: Params,
      batch: Batch,
      *,
      dropout_rng: jax.Array | None = None,
      z_loss: float = 1e-4,
      label_smoothing: float = 0.0,
  ) -> losses.LossSums:
    """Returns sums over the weighted target tokens."""

  def encode(self, params: Params, tokens_BxS: jax.Array) -> Context:
    """Reads inputs, one example a row, padded with 0."""

  def init_cache(self, batch: int, max_length: int) -> Cache:
    """Returns an empty cache for `batch` rows of up to `max_length` tokens."""

  def decode_step(
      self, params: Params, context: Context, cache: Cache, tokens_B: jax.Array
  ) -> tuple[jax.Array, Cache]:
    """Reads one more token; returns float32 logits [B, V] of the next."""

  def score(self, params: Params, context: Context, batch: Batch) -> jax.Array:
    """Returns log p [B, T] of target tokens, 0 where there is padding."""

  def stack(self, flat: Mapping[str, Any]) -> Params:
    """Turns T5X's names and per-layer arrays into this model's parameters."""

  def unstack(self, params: Params) -> dict[str, Any]:
    """Turns this model's parameters into T5X's names and per-layer arrays."""


def create(config: config_lib.EncoderDecoderConfig) -> Model:
  """Returns the model that `config` describes.

  Raises:
    UserError: No family of models has this type of configuration.
  """
  from flan_jax.models import encoder_decoder  # It imports this module.

  if isinstance(config, config_lib.EncoderDecoderConfig):
    return encoder_decoder.EncoderDecoder(config)
  raise errors.UserError(
      'MODEL: must be an EncoderDecoderConfig, not'
      f' {type(config).__name__}; bind it as MODEL = @EncoderDecoderConfig().'
  )
