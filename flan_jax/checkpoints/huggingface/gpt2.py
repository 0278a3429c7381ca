"""GPT-2: products are kept [in, out], those of queries, keys, values as one."""

from collections.abc import Iterator
from typing import Any

from flan_jax.checkpoints.huggingface import decoders
from flan_jax.checkpoints.huggingface import mapping
from flan_jax.models import config as model_config

# The first files have the names of the model without its head.
_PREFIX = 'transformer.'


def _config(facts: mapping.Json, _: Any) -> model_config.DecoderConfig:
  """Returns the configuration that config.json describes."""
  mapping.require(facts, 'quantization_config', None)
  mapping.require(facts, 'scale_attn_weights', True)
  mapping.require(facts, 'scale_attn_by_inverse_layer_idx', False)
  mapping.require(facts, 'add_cross_attention', False)
  width = mapping.size(facts, 'n_embd', 768)
  heads = mapping.size(facts, 'n_head', 12)
  if width % heads:
    raise mapping.unsupported('n_head', heads, f'a divisor of {width}')
  return model_config.DecoderConfig(
      **decoders.ids(facts, mapping.size(facts, 'vocab_size', 50257), 50256),
      emb_dim=width,
      num_heads=heads,
      head_dim=width // heads,
      mlp_dim=mapping.size(facts, 'n_inner', 4 * width),
      mlp_activations=(
          decoders.activation(facts, 'activation_function', default='gelu_new'),
      ),
      num_layers=mapping.size(facts, 'n_layer', 12),
      dropout_rate=float(facts.get('resid_pdrop', 0.1)),
      positions='learned',
      max_positions=mapping.size(facts, 'n_positions', 1024),
      norm='layer',
      norm_epsilon=float(facts.get('layer_norm_epsilon', 1e-5)),
      query_scale=(width // heads) ** -0.5,
      qkv_bias=True,
      out_bias=True,
      mlp_bias=True,
      logits_via_embedding=facts.get('tie_word_embeddings', True),
      scale_tied_logits=False,
  )


def _to_json(config: model_config.DecoderConfig) -> dict[str, Any]:
  """Returns what config.json says of a model."""
  activation = decoders.WRITTEN[config.mlp_activations[0]]
  return {
      'model_type': 'gpt2',
      'vocab_size': config.num_ids,
      'n_embd': config.emb_dim,
      'n_head': config.num_heads,
      'n_inner': config.mlp_dim,
      'n_layer': config.num_layers,
      'n_positions': config.max_positions,
      'activation_function': activation.replace(
          'gelu_pytorch_tanh', 'gelu_new'
      ),
      'layer_norm_epsilon': config.norm_epsilon,
      'resid_pdrop': config.dropout_rate,
      'embd_pdrop': config.dropout_rate,
      'attn_pdrop': config.dropout_rate,
      'tie_word_embeddings': config.logits_via_embedding,
      'bos_token_id': config.begin_id - 1,
  }


def _names(config: model_config.DecoderConfig) -> list[mapping.Entry]:
  """Returns the table of names."""
  tables = decoders.tables(config, f'{_PREFIX}wte.weight', 'lm_head.weight')
  table = tables[0]
  tables[0] = mapping.Entry(
      table.ours,
      table.theirs,
      rows=table.rows,
      other_names=('wte.weight', *table.other_names),
  )
  found = [
      *tables,
      _entry('decoder/position_embedder/embedding', 'wpe.weight'),
      _entry('decoder/decoder_norm/scale', 'ln_f.weight'),
      _entry('decoder/decoder_norm/bias', 'ln_f.bias'),
  ]
  for layer in range(config.num_layers):
    found += _layer(config, layer)
  return found


def _layer(
    config: model_config.DecoderConfig, layer: int
) -> Iterator[mapping.Entry]:
  """Yields the table's lines of one layer."""
  ours, theirs = f'decoder/layers_{layer}', f'h.{layer}'
  for own, name in (
      ('pre_self_attention_layer_norm', 'ln_1'),
      ('pre_mlp_layer_norm', 'ln_2'),
  ):
    yield _entry(f'{ours}/{own}/scale', f'{theirs}.{name}.weight')
    yield _entry(f'{ours}/{own}/bias', f'{theirs}.{name}.bias')
  width = config.emb_dim
  for place, own in enumerate(('query', 'key', 'value')):
    begin = place * width
    for axis, kind, tensor in ((1, 'kernel', 'weight'), (0, 'bias', 'bias')):
      yield _entry(
          f'{ours}/self_attention/{own}/{kind}',
          f'{theirs}.attn.c_attn.{tensor}',
          (axis, begin, begin + width),
      )
  for own, name in (
      ('self_attention/out', 'attn.c_proj'),
      ('mlp/wi', 'mlp.c_fc'),
      ('mlp/wo', 'mlp.c_proj'),
  ):
    yield _entry(f'{ours}/{own}/kernel', f'{theirs}.{name}.weight')
    yield _entry(f'{ours}/{own}/bias', f'{theirs}.{name}.bias')


def _entry(
    ours: str, theirs: str, part: tuple[int, int, int] | None = None
) -> mapping.Entry:
  return mapping.Entry(
      ours, f'{_PREFIX}{theirs}', part=part, other_names=(theirs,)
  )


_GPT2 = mapping.Architecture(
    config=_config,
    to_json=_to_json,
    fits=decoders.fits(_config, _to_json),
    names=_names,
    # The causal mask, which older versions kept in each layer.
    ignored=(
        r'(transformer\.)?h\.\d+\.attn\.(masked_)?bias',
        r'lm_head\.weight',
    ),
)

ARCHITECTURES = {'GPT2LMHeadModel': _GPT2}
