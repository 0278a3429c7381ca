"""What a model is made of. Importable without JAX, for gin and run.json."""

from collections.abc import Mapping
import dataclasses
from typing import ClassVar, Literal

from flan_jax import errors
from flan_jax.models import base_config

Lora = base_config.Lora
ModelConfig = base_config.ModelConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig(ModelConfig):
  """The sizes of a T5 1.1 encoder-decoder.

  The names are those of T5X's `T5Config`. The published sizes are in
  gin/models/t5_1_1/.

  Attributes:
    num_encoder_layers: Layers of the encoder.
    num_decoder_layers: Layers of the decoder.
    relative_attention_per_layer: Whether each layer has a table of biases by
      distance to itself (UMT5, arXiv 2304.09151); otherwise a stack has one.
    logits_scale: Which logits are divided by the root of `emb_dim`: 'tied'
      those that the embedding makes, as in T5; or 'always', or 'never'.
  """

  family: ClassVar[str] = 'encoder_decoder'
  row_format: ClassVar[str] = 'two_sides'

  num_encoder_layers: int
  num_decoder_layers: int
  relative_attention_per_layer: bool = False
  logits_scale: Literal['tied', 'always', 'never'] = 'tied'

  def __post_init__(self):
    super().__post_init__()
    if not isinstance(self.relative_attention_per_layer, bool):
      raise errors.UserError(
          f'{self._name}.relative_attention_per_layer: must be True or False,'
          f' not {self.relative_attention_per_layer!r}.'
      )
    self._check_choice('logits_scale', ('tied', 'always', 'never'))

  @property
  def scale_tied_logits(self) -> bool:
    """Whether logits that the embedding makes are divided by a root."""
    return self.logits_scale != 'never'

  @property
  def scale_untied_logits(self) -> bool:
    """Whether those of a kernel of their own are."""
    return self.logits_scale == 'always'


# The least that a number of a decoder may be.
_NUMBERS = {
    'rope_theta': 1,
    'rope_local_theta': 0,
    'query_scale': 0,
    'attention_cap': 0,
    'logits_cap': 0,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _PlusOneConfig(ModelConfig):
  """Of models whose own ids begin with a token like any other: ours are one up.

  Attributes:
    num_ids: Ids are 1 to `num_ids`; 0 is: all rows of the table are ids.
  """

  num_ids: int = 0

  def __post_init__(self):
    super().__post_init__()
    if self.num_ids >= self.vocab_size:
      raise errors.UserError(
          f'{self._name}.num_ids: ids from 1 to {self.num_ids} need a'
          f' vocab_size of at least {self.num_ids + 1}, not'
          f' {self.vocab_size}.'
      )

  @property
  def most_ids(self) -> int:
    """How many ids a vocabulary may have, 0 included."""
    return self.num_ids + 1 if self.num_ids else self.vocab_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
  """How rotary positions are stretched, for rows longer than at first.

  Attributes:
    kind: 'linear' divides all frequencies by `factor` (arXiv 2306.15595).
      'llama3' does so to those that turn slowly, leaves those that turn fast,
      and goes over from one to the other between (arXiv 2407.21783, as Llama
      3.1 has it).
    factor: How many times as long rows may be.
    low_frequency_factor: 'llama3': frequencies that turn less often than this
      in `original_positions` are slow.
    high_frequency_factor: 'llama3': those that turn more often are fast.
    original_positions: 'llama3': the length of rows before.
  """

  kind: Literal['linear', 'llama3']
  factor: float
  low_frequency_factor: float = 1.0
  high_frequency_factor: float = 4.0
  original_positions: int = 8192

  def __post_init__(self):
    if self.kind not in ('linear', 'llama3'):
      raise errors.UserError(
          f"RopeScaling.kind: must be 'linear' or 'llama3', not {self.kind!r}."
      )
    if not self.factor > 0:
      raise errors.UserError(
          f'RopeScaling.factor: must be above 0, not {self.factor!r}.'
      )
    if not 0 < self.low_frequency_factor < self.high_frequency_factor:
      raise errors.UserError(
          'RopeScaling.low_frequency_factor: must be above 0 and below'
          f' high_frequency_factor, not {self.low_frequency_factor!r} and'
          f' {self.high_frequency_factor!r}.'
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig(_PlusOneConfig):
  """The sizes of a decoder that reads inputs and targets as one row.

  By default its layers are those of T5 1.1's decoder, without attention to an
  encoder (T5X's `examples.decoder_only`). Sizes to start from are in
  gin/models/decoder/. The options make it GPT-2, Llama, Qwen or Gemma; a
  Hugging Face directory of one of those sets them (docs/decoders.md).

  Ids. Rows of data have 0 for padding, and where a row begins. Models for which
  0 is a token like any other are given ids that are one higher than their own:
  their tables get a row in front, which is never read. `begin_id` is what is
  read for the 0 at a row's begin. `num_ids` says how far ids go; what else the
  table has (the row in front, and rows that only make its size divide over a
  mesh) can be neither read nor written: its logits are -1e9.

  Attributes:
    num_layers: Layers.
    prefix_lm: Whether the tokens of the inputs attend to each other in both
      directions (arXiv 1910.10683, section 3.2.1); targets attend backwards
      either way.
    prefill_chunk: Longer inputs are read so many tokens at a time before an
      answer is written, which bounds the memory of attention; 0 reads them at
      once, as a prefix language model must.
    num_kv_heads: Heads of keys and values, each shared by as many heads of
      queries (arXiv 2305.13245); 0 is: `num_heads`.
    positions: 'relative': T5's biases by distance. 'rotary': queries and keys
      are turned (arXiv 2104.09864), the two halves of a head being a pair's
      two sides. 'learned': a table of vectors, added to those of tokens.
    max_positions: The length of rows that a model was made for, where it says
      so; the rows of the table if positions are learned.
    rope_theta: The base of rotary positions' wave lengths.
    rope_scaling: How they are stretched, if they are.
    rope_local_theta: The base in layers with a window, whose positions are not
      stretched; 0 is: as in all layers.
    window: How many tokens, itself included, a token sees in `window_layers`.
    window_layers: For each layer whether its attention has the window; () is
      that none has.
    norm: 'rms' (T5, Llama), 'rms_plus_one' (Gemma: what is stored is the scale
      less 1), or 'layer' (GPT-2: with mean and bias).
    norm_epsilon: What norms add to the variance.
    norm_after: Whether blocks have a norm at their end too (Gemma 2).
    query_key_norm: Whether queries and keys have norms over a head's width.
    query_scale: What queries are multiplied with. 1 is T5, which scales their
      first weights instead.
    qkv_bias: Whether the products for queries, keys and values have biases.
    out_bias: Whether attention's last product has one.
    mlp_bias: Whether those of the feed-forward block have.
    attention_cap: Attention's logits x become cap * tanh(x / cap), before
      masks; 0 leaves them.
    logits_cap: The same for the model's logits.
    scale_embedding: Whether token vectors are multiplied with the root of
      `emb_dim` (Gemma).
    scale_tied_logits: Whether logits that the embedding makes are divided by
      that root (T5).
    num_ids: Ids are 1 to `num_ids`; 0 is: all rows of the table are ids.
    begin_id: What is read for 0 at a row's begin.
  """

  family: ClassVar[str] = 'decoder_only'
  row_format: ClassVar[str] = 'one_side'

  num_layers: int
  prefix_lm: bool = False
  prefill_chunk: int = 1024
  num_kv_heads: int = 0
  positions: Literal['relative', 'rotary', 'learned'] = 'relative'
  max_positions: int = 0
  rope_theta: float = 10000.0
  rope_scaling: RopeScaling | None = None
  rope_local_theta: float = 0.0
  window: int = 0
  window_layers: tuple[bool, ...] = ()
  norm: Literal['rms', 'rms_plus_one', 'layer'] = 'rms'
  norm_epsilon: float = 1e-6
  norm_after: bool = False
  query_key_norm: bool = False
  query_scale: float = 1.0
  qkv_bias: bool = False
  out_bias: bool = False
  mlp_bias: bool = False
  attention_cap: float = 0.0
  logits_cap: float = 0.0
  scale_embedding: bool = False
  scale_tied_logits: bool = True
  begin_id: int = 0

  def __post_init__(self):
    super().__post_init__()
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.type is bool and not isinstance(value, bool):
        raise errors.UserError(
            f'{self._name}.{field.name}: must be True or False, not {value!r}.'
        )
    self._check_choice('positions', ('relative', 'rotary', 'learned'))
    self._check_choice('norm', ('rms', 'rms_plus_one', 'layer'))
    # JSON gives a dict and a list.
    if isinstance(self.rope_scaling, Mapping):
      try:
        scaling = RopeScaling(**self.rope_scaling)
      except TypeError as error:
        raise errors.UserError(
            f'{self._name}.rope_scaling: {error}; it is like'
            " {'kind': 'linear', 'factor': 4.0}"
        ) from error
      object.__setattr__(self, 'rope_scaling', scaling)
    windows = self.window_layers
    if not isinstance(windows, (list, tuple)) or not all(
        isinstance(own, bool) for own in windows
    ):
      raise errors.UserError(
          f'{self._name}.window_layers: must be True or False for each layer,'
          f' not {windows!r}.'
      )
    object.__setattr__(self, 'window_layers', tuple(windows))
    for name, least in _NUMBERS.items():
      self._check_number(name, least)
    self._check_heads()
    self._check_positions()
    self._check_ids()

  @property
  def kv_heads(self) -> int:
    """Heads of keys and values."""
    return self.num_kv_heads or self.num_heads

  def _check_heads(self):
    if self.num_heads % self.kv_heads:
      raise errors.UserError(
          f'{self._name}.num_kv_heads: must divide num_heads,'
          f' {self.num_heads}, and is {self.num_kv_heads}.'
      )

  def _check_positions(self):
    if self.positions == 'learned' and not self.max_positions:
      raise errors.UserError(
          f'{self._name}.max_positions: learned positions need the number of'
          ' rows of their table.'
      )
    if self.positions == 'rotary' and self.head_dim % 2:
      raise errors.UserError(
          f'{self._name}.head_dim: must be even for rotary positions, not'
          f' {self.head_dim}.'
      )
    if self.window_layers and len(self.window_layers) != self.num_layers:
      raise errors.UserError(
          f'{self._name}.window_layers: must say it of each of the'
          f' {self.num_layers} layers, not of {len(self.window_layers)}.'
      )
    if any(self.window_layers) and not self.window:
      raise errors.UserError(
          f'{self._name}.window: layers with a window need its size.'
      )

  def _check_ids(self):
    if self.begin_id >= self.most_ids:
      raise errors.UserError(
          f'{self._name}.begin_id: {self.begin_id} is none of its'
          f' {self.most_ids} ids.'
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig(_PlusOneConfig):
  """The sizes of an encoder alone, BERT's (arXiv 1810.04805).

  It ranks options (`models.encoder_only`), and can neither write nor be trained
  here. A Hugging Face directory sets the fields. Ids are one higher than the
  model's own, as those of `DecoderConfig` are.

  Attributes:
    num_layers: Layers.
    max_positions: The rows of the table of positions: no row is longer.
    num_types: The rows of the table of types: with two or more, what is read
      first (the inputs) and second (an option) are told apart.
    num_ids: Ids are 1 to `num_ids`; 0 is: all rows of the table are ids.
    head: What stands on the stack. 'masked' says what a masked token was.
      'score' makes one number of a row, by which options compare.
  """

  family: ClassVar[str] = 'encoder_only'
  row_format: ClassVar[str] = 'two_sides'
  writes: ClassVar[bool] = False

  num_layers: int
  max_positions: int
  num_types: int = 2
  head: Literal['masked', 'score'] = 'masked'
  mlp_activations: tuple[str, ...] = ('gelu_exact',)
  logits_via_embedding: bool = True
  norm_epsilon: float = 1e-12

  def __post_init__(self):
    super().__post_init__()
    self._check_size('max_positions', 1)
    self._check_choice('head', ('masked', 'score'))
    if len(self.mlp_activations) > 1:
      raise errors.UserError(
          f'{self._name}.mlp_activations: must be one, as its head has it too,'
          f' not {self.mlp_activations!r}.'
      )
    if not self.logits_via_embedding:
      raise errors.UserError(
          f'{self._name}.logits_via_embedding: must be True, not'
          f' {self.logits_via_embedding!r}.'
      )

  @property
  def scale_tied_logits(self) -> bool:
    """Whether logits that the embedding makes are divided by a root."""
    return False


FAMILIES: tuple[type[ModelConfig], ...] = (
    EncoderDecoderConfig,
    DecoderConfig,
    EncoderConfig,
)
