"""What models of all families are made of; config.py has the families."""

import dataclasses
from typing import ClassVar, Literal

from flan_jax import errors

# Names of `jax.nn` that models/layers.py knows, and the identity.
ACTIVATIONS = ('gelu', 'gelu_exact', 'linear', 'relu', 'silu')

_MAY_BE_0 = (
    'unroll_layers',
    'prefill_chunk',
    'num_kv_heads',
    'max_positions',
    'window',
    'num_ids',
    'begin_id',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora:
  """Low-rank adapters beside kernels (LoRA, arXiv 2106.09685).

  A product x W becomes x W + (dropout(x) A) B alpha / rank, where A is [in,
  rank], B is [rank, out] and begins as 0. The numbers mean what they mean to
  PEFT.

  Attributes:
    rank: The width of what is between A and B.
    alpha: The adapter's product is multiplied by alpha / rank.
    dropout_rate: Of the adapter's input, each entry for itself.
    targets: Whose kernels get adapters: names of modules ('query', 'wi_0'), or
      the last parts of their names ('self_attention/query').
  """

  rank: int = 8
  alpha: float = 16.0
  dropout_rate: float = 0.0
  targets: tuple[str, ...] = ('query', 'value')

  def __post_init__(self):
    rank, alpha = self.rank, self.alpha
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
      raise errors.UserError(
          f'Lora.rank: must be a positive integer, not {rank!r}.'
      )
    if not isinstance(alpha, (int, float)) or not alpha > 0:
      raise errors.UserError(
          f'Lora.alpha: must be a positive number, not {alpha!r}.'
      )
    if not 0 <= self.dropout_rate < 1:
      raise errors.UserError(
          'Lora.dropout_rate: must be at least 0 and below 1, not'
          f' {self.dropout_rate!r}.'
      )
    targets = self.targets
    if (
        isinstance(targets, str)
        or not targets
        or not all(isinstance(target, str) and target for target in targets)
    ):
      raise errors.UserError(
          "Lora.targets: must be names of modules such as ('query', 'value'),"
          f' not {targets!r}.'
      )
    # gin and JSON give lists; a tuple keeps what holds it hashable.
    object.__setattr__(self, 'targets', tuple(targets))

  @property
  def scale(self) -> float:
    """What the adapter's product is multiplied by."""
    return self.alpha / self.rank

  def adapts(self, module: str) -> bool:
    """Whether the module 'decoder/layers/mlp/wo', say, has an adapter."""
    return any(f'/{module}'.endswith(f'/{name}') for name in self.targets)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
  """The sizes that all families have; the names are T5X's.

  Attributes:
    family: The family's name in run.json.
    row_format: What rows of data look like to it; one of the formats of
      data/packing.py.
    writes: Whether it writes text, and is trained to; otherwise it ranks.
    vocab_size: Rows of the embedding, at least the vocabulary's size; a
      multiple of 128 keeps it divisible over a mesh.
    emb_dim: Width of the residual stream.
    num_heads: Attention heads.
    head_dim: Width of a head; `num_heads * head_dim` need not be `emb_dim`.
    mlp_dim: Width inside the feed-forward block.
    mlp_activations: One activation per input projection; their outputs are
      multiplied. ('gelu', 'linear') is T5 1.1's gated GELU.
    dropout_rate: In all of T5's places; only `dropout_rng` switches it on.
    logits_via_embedding: Whether the embedding also makes the logits (T5 1.0).
    dtype: What is computed in. Parameters, softmax, norms and logits are
      float32 either way.
    norm_epsilon: What norms add to the mean square.
    relative_attention_num_buckets: Entries of the relative position table.
    relative_attention_max_distance: From here on all distances share a bucket.
    remat: What layers keep for the backward pass, which computes the rest
      again. 'none' keeps all. 'minimal' keeps what products with kernels give
      (T5X's name; products in attention, activations, norms and dropout are
      computed again): little more time, and attention's weights, the largest
      arrays of long rows, are not kept. 'full' keeps only the inputs of each
      layer: about a third more time, least memory.
    unroll_layers: How many layers each turn of the loop over a stack's layers
      holds. 1 compiles fastest; the number of layers leaves no loop; 0 chooses:
      no loop for up to four layers without remat, otherwise 1. Parameters have
      the same names and shapes either way.
    loss_chunks: In how many parts of the targets' length logits and losses are
      computed, one after the other. Logits, and their gradient, take rows x
      targets x vocab_size x 4 bytes each, divided by this number. Where parts
      do not divide the length, the next larger number that does.
    lora: Adapters, which a model has while it trains them: the trainer sets it.
      Models that predict have them merged into their kernels.
  """

  family: ClassVar[str]
  row_format: ClassVar[str]
  writes: ClassVar[bool] = True

  vocab_size: int = 32128
  emb_dim: int
  num_heads: int
  head_dim: int
  mlp_dim: int
  mlp_activations: tuple[str, ...] = ('gelu', 'linear')
  dropout_rate: float = 0.0
  logits_via_embedding: bool = False
  dtype: Literal['float32', 'bfloat16'] = 'float32'
  norm_epsilon: float = 1e-6
  relative_attention_num_buckets: int = 32
  relative_attention_max_distance: int = 128
  remat: Literal['none', 'minimal', 'full'] = 'none'
  unroll_layers: int = 0
  loss_chunks: int = 1
  lora: Lora | None = None

  def __post_init__(self):
    # gin and JSON give lists; a tuple keeps the config hashable and equal to
    # itself after a round trip.
    object.__setattr__(self, 'mlp_activations', tuple(self.mlp_activations))
    for field in dataclasses.fields(self):
      if field.type is int:
        self._check_size(field.name, 0 if field.name in _MAY_BE_0 else 1)
    if self.dtype == 'float16':
      raise errors.UserError(
          f"{self._name}.dtype: T5's feed-forward sums exceed 65504, the"
          " largest float16, and become infinite; use 'bfloat16' or 'float32'."
      )
    self._check_choice('dtype', ('float32', 'bfloat16'))
    self._check_choice('remat', ('none', 'minimal', 'full'))
    if not self.mlp_activations:
      raise errors.UserError(
          f'{self._name}.mlp_activations: at least one is needed, such'
          " as ('gelu', 'linear')."
      )
    for name in self.mlp_activations:
      if name not in ACTIVATIONS:
        raise errors.UserError(
            f'{self._name}.mlp_activations: no activation is called'
            f' {name!r}; there are {", ".join(ACTIVATIONS)}.'
        )
    if not 0 <= self.dropout_rate < 1:
      raise errors.UserError(
          f'{self._name}.dropout_rate: must be at least 0 and below 1,'
          f' not {self.dropout_rate!r}.'
      )
    if not self.norm_epsilon > 0:
      raise errors.UserError(
          f'{self._name}.norm_epsilon: must be above 0, not'
          f' {self.norm_epsilon!r}.'
      )
    self._check_buckets()

  @property
  def most_ids(self) -> int:
    """How many ids a vocabulary may have, 0 included."""
    return self.vocab_size

  @property
  def kv_heads(self) -> int:
    """Heads of keys and values."""
    return self.num_heads

  @property
  def scale_tied_logits(self) -> bool:
    """Whether logits that the embedding makes are divided by a root."""
    return True

  @property
  def scale_untied_logits(self) -> bool:
    """Whether those of a kernel of their own are."""
    return False

  @property
  def _name(self) -> str:
    """What gin files call this class."""
    return type(self).__name__

  def _check_size(self, name: str, least: int):
    value = getattr(self, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
      kind = 'a positive integer' if least else 'an integer, at least 0'
      raise errors.UserError(
          f'{self._name}.{name}: must be {kind}, not {value!r}.'
      )

  def _check_number(self, name: str, least: float):
    value = getattr(self, name)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not value >= least:
      raise errors.UserError(
          f'{self._name}.{name}: must be a number of at least {least}, not'
          f' {value!r}.'
      )

  def _check_choice(self, name: str, choices: tuple[str, ...]):
    value = getattr(self, name)
    if value not in choices:
      raise errors.UserError(
          f'{self._name}.{name}: must be one of'
          f' {", ".join(map(repr, choices))}, not {value!r}.'
      )

  def _check_buckets(self):
    """The encoder halves the buckets twice, and logarithms need room."""
    buckets = self.relative_attention_num_buckets
    if buckets % 4:
      raise errors.UserError(
          f'{self._name}.relative_attention_num_buckets: must be a'
          f' multiple of 4, not {buckets}.'
      )
    if self.relative_attention_max_distance <= buckets // 2:
      raise errors.UserError(
          f'{self._name}.relative_attention_max_distance: must be above'
          f' half the number of buckets, {buckets // 2}, not'
          f' {self.relative_attention_max_distance}.'
      )
