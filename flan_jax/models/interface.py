"""What the trainer, decoding and ranking know of a model, and nothing more.

A family says how examples become rows (`config.row_format`), and computes on
them. Predicting has two parts: inputs are read once (`encode`), and what
follows them is either written token by token (`steps`, `start`, `decode_step`)
or given (`score`). For an encoder-decoder, inputs are what the decoder attends
to; for a decoder-only model, they are the beginning of the row. An encoder
alone can do neither, and says so in a UserError; instead it has
`log_probability`, of one token of a row given all others, or `row_scores`, by a
head that was trained for it (encoder_only.py).

Shapes are written as suffixes: B batch, S length of inputs, T length of what
follows, V vocabulary, H heads, D width of a head.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from flan_jax import errors
from flan_jax.models import config as config_lib
from flan_jax.models import losses
import jax
import jax.numpy as jnp

# A batch of features under SeqIO's names, int32 [rows, length].
Batch = Mapping[str, Any]
# A nested dict of float32 arrays; layers are stacked on axis 0.
Params = Any


class Context(NamedTuple):
  """What each token that follows attends to, computed once for an input.

  Inputs of a batch may have different lengths.

  Attributes:
    key: [layers, B, H, D, S], in the model's dtype.
    value: [layers, B, H, D, S], in the model's dtype.
    mask_BxS: bool, True where there is a token.
    logits_BxV: float32, of the first token that follows, where reading the
      inputs says so already; else None.
  """

  key: jax.Array
  value: jax.Array
  mask_BxS: jax.Array
  logits_BxV: jax.Array | None


class Steps(NamedTuple):
  """What decoding steps read, laid out for them: each layer has its own arrays.

  Slices of arrays of all layers would be copied in each step.

  Attributes:
    params: The parameters that are not a layer's.
    layers: The parameters of each layer, its kernels in the model's dtype.
    key: For each layer the context's, [B, H, D, S].
    value: For each layer the context's, [B, H, D, S].
    mask_BxS: The context's.
    logits_BxV: The context's.
  """

  params: Params
  layers: tuple[Params, ...]
  key: tuple[jax.Array, ...]
  value: tuple[jax.Array, ...]
  mask_BxS: jax.Array
  logits_BxV: jax.Array | None


class Cache(NamedTuple):
  """Keys and values of the tokens that follow the inputs, so far.

  A step has K tokens a row, which is 1 unless there are beams. They lie beside
  each other: token k of step t is at t * K + k.

  Attributes:
    key: For each layer [B, H, D, T * K], in the model's dtype.
    value: For each layer [B, H, D, T * K], in the model's dtype.
    position: int32 scalar, the number of steps read; the same for all rows.
  """

  key: tuple[jax.Array, ...]
  value: tuple[jax.Array, ...]
  position: jax.Array

  @property
  def places(self) -> int:
    """T * K, for which there is room."""
    return self.key[0].shape[-1]

  def grown(self, places: int) -> 'Cache':
    """Returns the cache with room for T * K = `places`, no fewer than now."""
    more = places - self.places
    if not more:
      return self

    def longer(x_BxHxDxS: jax.Array) -> jax.Array:
      return jnp.pad(x_BxHxDxS, ((0, 0),) * 3 + ((0, more),))

    key, value = jax.tree.map(longer, (self.key, self.value))
    return Cache(key, value, self.position)


class Model(Protocol):
  """A model as pure functions of its parameters; all can be jitted."""

  @property
  def config(self) -> config_lib.ModelConfig:
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

  def steps(self, params: Params, context: Context) -> Steps:
    """Returns what decoding steps read; to be made once, not in each step."""

  def step_params(self, params: Params) -> tuple[Params, tuple[Params, ...]]:
    """Returns the part of `steps` that no context has to do with."""

  def init_cache(self, batch: int, max_length: int, beams: int = 1) -> Cache:
    """Returns an empty cache for `batch` rows of up to `max_length` steps."""

  def start(self, steps: Steps, cache: Cache) -> tuple[jax.Array, Cache]:
    """Returns float32 logits [B, 1, V] of the first token, and the cache.

    The cache, which must be empty, has then read what stands before it.
    """

  def decode_step(
      self,
      steps: Steps,
      cache: Cache,
      tokens_BxK: jax.Array,
      seen_BxKxS: jax.Array | None = None,
  ) -> tuple[jax.Array, Cache]:
    """Reads the next token; returns float32 logits [B, K, V] of what follows.

    Args:
      steps: What `steps` returned.
      cache: What `start` or the last step returned, with room for one more.
      tokens_BxK: int32; K is 1, or the number of beams.
      seen_BxKxS: bool, which places of the cache each token sees, its own
        included; None, only for K of 1, is all up to its own.
    """

  def score(self, params: Params, context: Context, batch: Batch) -> jax.Array:
    """Returns log p [B, T] of target tokens, 0 where there is padding.

    A row's segments each follow the whole inputs, and see nothing of the
    others: the options of an example are scored beside each other. Each begins
    with the input token 0 at position 0, before its first target token.
    """

  def stack(self, flat: Mapping[str, Any]) -> Params:
    """Turns T5X's names and per-layer arrays into this model's parameters."""

  def unstack(self, params: Params) -> dict[str, Any]:
    """Turns this model's parameters into T5X's names and per-layer arrays."""


def count_parameters(model: Model) -> int:
  """Returns the number of entries of all parameters."""
  return sum(leaf.size for leaf in jax.tree.leaves(model.abstract_params()))


def create(config: config_lib.ModelConfig) -> Model:
  """Returns the model that `config` describes.

  Raises:
    UserError: No family of models has this type of configuration.
  """
  # They import this module.
  from flan_jax.models import decoder_only
  from flan_jax.models import encoder_decoder
  from flan_jax.models import encoder_only

  if isinstance(config, config_lib.EncoderDecoderConfig):
    return encoder_decoder.EncoderDecoder(config)
  if isinstance(config, config_lib.DecoderConfig):
    return decoder_only.DecoderOnly(config)
  if isinstance(config, config_lib.EncoderConfig):
    return encoder_only.EncoderOnly(config)
  names = [family.__name__ for family in config_lib.FAMILIES]
  raise errors.UserError(
      f'MODEL: must be {" or ".join(names)}, not {type(config).__name__}; bind'
      f' it as MODEL = @{names[0]}().'
  )
