"""What all families of models do alike, around their Linen modules."""

import abc
from collections.abc import Callable, Mapping, Sequence
import functools
import operator
from typing import Any

from flan_jax import partitioning
from flan_jax.models import attention
from flan_jax.models import config as config_lib
from flan_jax.models import interface
from flan_jax.models import layers
from flan_jax.models import losses
from flan_jax.models import naming
from flan_jax.models import readout
from flan_jax.models import transformer
from flax import linen as nn
import jax
import jax.numpy as jnp

# The axes of one layer's keys or values in a cache.
_CACHE = ('batch', 'kv_heads', 'kv', 'length')


class Family(abc.ABC):
  """The part of `interface.Model` that does not depend on the family.

  Holds sizes only, never parameters.
  """

  def __init__(
      self,
      config: config_lib.ModelConfig,
      module: Callable[..., nn.Module],
      cached_layers: int,
  ):
    """Traces nothing yet.

    Args:
      config: The sizes.
      module: Makes the Linen module from `config` and `train`.
      cached_layers: Layers whose keys and values are kept while decoding.
    """
    self.config = config
    self._eval = module(config, train=False)
    self._train = module(config, train=True)
    self._cached_layers = cached_layers

  def init(self, rng: jax.Array) -> interface.Params:
    """Returns float32 parameters with T5X's initial distributions.

    Jit it with `out_shardings` to make each device's part in place.
    """
    return jax.tree.map(
        lambda box: box.value, self._boxed(rng), is_leaf=_is_box
    )

  @functools.cached_property
  def _abstract(self) -> Any:
    return jax.eval_shape(self._boxed, jax.random.key(0))

  def abstract_params(self) -> interface.Params:
    """Returns the parameters' tree of `jax.ShapeDtypeStruct`."""
    return jax.tree.map(
        lambda box: jax.ShapeDtypeStruct(box.value.shape, box.value.dtype),
        self._abstract,
        is_leaf=_is_box,
    )

  def logical_axes(self) -> interface.Params:
    """Returns the parameters' tree of tuples of logical axis names."""
    return jax.tree.map(
        lambda box: tuple(box.names), self._abstract, is_leaf=_is_box
    )

  def stacked(self) -> interface.Params:
    """Returns the parameters' tree with True where axis 0 counts layers."""
    flat = naming.flatten(self.abstract_params())
    return naming.unflatten({name: naming.is_stacked(name) for name in flat})

  @abc.abstractmethod
  def _read(
      self,
      params: interface.Params,
      batch: interface.Batch,
      dropout_rng: jax.Array | None,
      head: bool,
  ) -> jax.Array:
    """Returns logits or, without `head`, what they are made of, [B, T, E]."""

  def logits(
      self,
      params: interface.Params,
      batch: interface.Batch,
      *,
      dropout_rng: jax.Array | None = None,
  ) -> jax.Array:
    """Returns float32 logits [B, T, V]; those at padding mean nothing.

    Args:
      params: The parameters.
      batch: Features as the family's class says; no targets where there are
        decoder_segment_ids.
      dropout_rng: Switches dropout on.
    """
    return self._read(params, batch, dropout_rng, True)

  def loss(
      self,
      params: interface.Params,
      batch: interface.Batch,
      *,
      dropout_rng: jax.Array | None = None,
      z_loss: float = 1e-4,
      label_smoothing: float = 0.0,
  ) -> losses.LossSums:
    """Returns sums over target tokens, weighted by decoder_loss_weights.

    Args:
      params: The parameters.
      batch: As for `logits`, with decoder_target_tokens; without
        decoder_loss_weights every token that is not 0 counts once.
      dropout_rng: Switches dropout on.
      z_loss: See `losses.token_losses`.
      label_smoothing: See `losses.token_losses`.
    """
    targets_BxT = batch['decoder_target_tokens']
    weights_BxT = batch.get('decoder_loss_weights')
    if weights_BxT is None:
      weights_BxT = targets_BxT != 0
    x_BxTxE, kernel_ExV = self._head(
        params, self._read(params, batch, dropout_rng, False)
    )
    return losses.head_loss_sums(
        x_BxTxE,
        kernel_ExV,
        targets_BxT,
        weights_BxT,
        z_loss=z_loss,
        label_smoothing=label_smoothing,
        chunks=self.config.loss_chunks,
        readout=readout.of(self.config),
    )

  def _head(
      self, params: interface.Params, x_BxTxE: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Returns what to multiply for logits: `x`, maybe scaled, and a kernel."""
    if self.config.logits_via_embedding:
      return layers.tied_head(
          x_BxTxE, _table(params), self.config.scale_tied_logits
      )
    if self.config.scale_untied_logits:
      x_BxTxE = layers.scaled_down(x_BxTxE)
    return x_BxTxE, params['decoder']['logits_dense']['kernel']

  def _log_probabilities(
      self,
      params: interface.Params,
      x_BxTxE: jax.Array,
      targets_BxT: jax.Array,
      wanted_BxT: jax.Array,
  ) -> jax.Array:
    """Returns log p of wanted targets, float32 [B, T], and 0 elsewhere."""
    x_BxTxE, kernel_ExV = self._head(params, x_BxTxE)
    return losses.head_log_probabilities(
        x_BxTxE, kernel_ExV, targets_BxT, wanted_BxT, readout.of(self.config)
    )

  def steps(
      self, params: interface.Params, context: interface.Context
  ) -> interface.Steps:
    """Returns what decoding steps read, each layer's apart from the others'."""
    places = range(self._cached_layers)
    own, layers_apart = self.step_params(params)
    return interface.Steps(
        params=own,
        layers=layers_apart,
        key=tuple(context.key[i] for i in places),
        value=tuple(context.value[i] for i in places),
        mask_BxS=context.mask_BxS,
        logits_BxV=context.logits_BxV,
    )

  def step_params(
      self, params: interface.Params
  ) -> tuple[interface.Params, tuple[interface.Params, ...]]:
    """Returns `Steps.params` and `Steps.layers`."""
    own = dict(params['decoder'])
    stacked = _cast_kernels(own.pop('layers'), jnp.dtype(self.config.dtype))
    return params | {'decoder': own}, tuple(
        jax.tree.map(operator.itemgetter(i), stacked)
        for i in range(self._cached_layers)
    )

  def init_cache(
      self, batch: int, max_length: int, beams: int = 1
  ) -> interface.Cache:
    """Returns an empty cache for `batch` rows of up to `max_length` steps."""
    config = self.config
    shape = (batch, config.kv_heads, config.head_dim, max_length * beams)

    def zeros() -> tuple[jax.Array, ...]:
      empty = jnp.zeros(shape, jnp.dtype(config.dtype))
      return (partitioning.constrain(empty, _CACHE),) * self._cached_layers

    return interface.Cache(zeros(), zeros(), jnp.zeros((), jnp.int32))

  def stack(self, flat: Mapping[str, Any]) -> interface.Params:
    """Returns parameters from T5X's names; see `naming.stack`."""
    return naming.stack(flat, self.abstract_params())

  def unstack(self, params: interface.Params) -> dict[str, Any]:
    """Returns parameters under T5X's names; see `naming.unstack`."""
    return naming.unstack(params)

  def _apply(
      self,
      params: interface.Params,
      *args: Any,
      dropout_rng: jax.Array | None = None,
      **kwargs: Any,
  ) -> Any:
    """Applies the module, the one with dropout if there is a key."""
    module = self._eval if dropout_rng is None else self._train
    return module.apply(
        {'params': params},
        *args,
        rngs={} if dropout_rng is None else {'dropout': dropout_rng},
        **kwargs,
    )

  def _boxed(self, rng: jax.Array) -> Any:
    """Returns the parameters in Flax's boxes, which carry axis names."""
    # Only shapes matter, but rows must divide over a mesh that is in use.
    ones = jnp.ones((partitioning.batch_divisor(), 1), jnp.int32)
    return self._eval.init(rng, *self._init_arguments(ones))['params']

  @abc.abstractmethod
  def _init_arguments(self, ones_Bx1: jax.Array) -> tuple[Any, ...]:
    """Returns what the module is called with to make its parameters."""


def _table(params: interface.Params) -> jax.Array:
  """Returns the token vectors [V, E], wherever the family has them."""
  owner = params if 'token_embedder' in params else params['decoder']
  return owner['token_embedder']['embedding']


def segments(batch: interface.Batch, name: str, tokens: str) -> jax.Array:
  """Returns the segment ids, or one segment of all that is not padding."""
  if batch.get(name) is not None:
    return batch[name]
  return (batch[tokens] != 0).astype(jnp.int32)


def each_step(
    steps: interface.Steps, cache: interface.Cache
) -> tuple[transformer.Step, ...]:
  """Returns what each layer reads in a decoding step."""
  return tuple(
      transformer.Step(
          params, attention.KeyValue(*past), attention.KeyValue(*context)
      )
      for params, past, context in zip(
          steps.layers,
          zip(cache.key, cache.value, strict=True),
          zip(steps.key, steps.value, strict=True),
          strict=True,
      )
  )


def extended(
    cache: interface.Cache, new: Sequence[attention.KeyValue]
) -> interface.Cache:
  """Returns the cache after a step that gave each layer's new cache."""
  keys, values = (
      tuple(partitioning.constrain(x, _CACHE) for x in side)
      for side in zip(*new, strict=True)
  )
  return interface.Cache(keys, values, cache.position + 1)


def _cast_kernels(params: interface.Params, dtype: Any) -> interface.Params:
  """Returns the parameters with the kernels in what they are used in."""

  def cast(path, leaf: jax.Array) -> jax.Array:
    return leaf.astype(dtype) if path[-1].key == 'kernel' else leaf

  return jax.tree_util.tree_map_with_path(cast, params)


def constrain_layers(x_LxBxHxDxS: jax.Array) -> jax.Array:
  """Fixes where keys or values of all layers go."""
  return partitioning.constrain(
      x_LxBxHxDxS, ('layers', 'batch', 'kv_heads', 'kv', 'length')
  )


def _is_box(leaf: Any) -> bool:
  return isinstance(leaf, nn.LogicallyPartitioned)
