"""The floating point operations that a model needs, from its sizes alone.

Counted as in appendix B of PaLM (arXiv 2204.02311), for the layers of T5 1.1:

  - a multiplication and an addition are 2 FLOPs; the backward pass costs twice
    the forward pass; what rematerialisation computes again does not count;
  - of a token and a layer, the products with kernels: 4 E J for the four of
    attention (E the residual stream's width, J that of all heads; for keys and
    values of those that they have, which may be fewer), 2 E J more for queries
    and outputs of cross attention, and E F for each of the feed-forward block's
    kernels (3 where it is gated). Keys and values of cross attention, 2 E J a
    layer of the decoder, are those of encoder tokens;
  - attention itself: 2 J for each key that a token may attend to, the whole row
    in the encoder and in cross attention, half of it in causal attention, and
    no more than the window in layers that have one. That packed rows let a
    token attend to its own example alone is not used;
  - the logits, E V of a target token; looking up embeddings counts nothing, and
    norms, activations and softmax are left out.

The inputs of a decoder-only model stand in the decoder's row and count as any
token there: with logits, and with causal attention, even where it is not.
"""

from collections.abc import Mapping
import dataclasses

from flan_jax.models import config as config_lib

# Forward, and twice that backward; 2 FLOPs for a multiplication and addition.
_TRAINING = 2 * 3


@dataclasses.dataclass(frozen=True)
class TokenFlops:
  """Training FLOPs of a token, by the side of the row that it stands on.

  Attributes:
    encoder: Of a token of the encoder's; 0 where there is no encoder.
    decoder: Of a token of the decoder's.
  """

  encoder: float
  decoder: float

  def total(self, tokens: Mapping[str, float]) -> float:
    """Returns the FLOPs of so many tokens: {'encoder': ..., 'decoder': ...}."""
    return sum(getattr(self, side) * count for side, count in tokens.items())

  def less(self, trained: float) -> 'TokenFlops':
    """Returns the FLOPs where only some parameters have a gradient.

    A third of all is the gradients of kernels, so it shrinks with the share of
    parameters that are trained. (Attention has no kernel, and is counted as if
    it had.)
    """
    factor = (2 + trained) / 3
    return TokenFlops(self.encoder * factor, self.decoder * factor)


def training(
    config: config_lib.ModelConfig, lengths: Mapping[str, int]
) -> TokenFlops:
  """Returns what the forward and backward pass of a token cost.

  Args:
    config: The model.
    lengths: Tokens of 'inputs' and 'targets' in a row, or in its two parts.
      Attention's share grows with them.

  Raises:
    TypeError: The model's family is not known here.
  """
  if isinstance(config, config_lib.EncoderDecoderConfig):
    return _encoder_decoder(config, lengths)
  if isinstance(config, config_lib.DecoderConfig):
    return _decoder_only(config, sum(lengths.values()))
  raise TypeError(f'{type(config).__name__}: what it costs is not known.')


def _decoder_only(config: config_lib.DecoderConfig, length: int) -> TokenFlops:
  joined = config.num_heads * config.head_dim
  joined_kv = config.kv_heads * config.head_dim
  mlp_kernels = len(config.mlp_activations) + 1
  layer = (
      2 * config.emb_dim * (joined + joined_kv)
      + mlp_kernels * config.emb_dim * config.mlp_dim
  )
  windowed = sum(config.window_layers)
  keys = (config.num_layers - windowed) * length / 2
  keys += windowed * min(config.window, length / 2)
  return TokenFlops(
      encoder=0.0,
      decoder=_TRAINING
      * (
          config.num_layers * layer
          + 2 * joined * keys
          + config.emb_dim * config.vocab_size
      ),
  )


def _encoder_decoder(
    config: config_lib.EncoderDecoderConfig, lengths: Mapping[str, int]
) -> TokenFlops:
  joined = config.num_heads * config.head_dim
  kernel = config.emb_dim * joined
  mlp_kernels = len(config.mlp_activations) + 1
  mlp = mlp_kernels * config.emb_dim * config.mlp_dim
  encoder_layer = 4 * kernel + mlp + 2 * joined * lengths['inputs']
  cross = 2 * kernel + 2 * joined * lengths['inputs']
  decoder_layer = 4 * kernel + mlp + cross + joined * lengths['targets']
  return TokenFlops(
      encoder=_TRAINING
      * (
          config.num_encoder_layers * encoder_layer
          + config.num_decoder_layers * 2 * kernel
      ),
      decoder=_TRAINING
      * (
          config.num_decoder_layers * decoder_layer
          + config.emb_dim * config.vocab_size
      ),
  )
