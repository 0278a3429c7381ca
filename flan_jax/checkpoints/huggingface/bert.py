"""BERT, with its head for masked tokens or with one that scores options."""

from collections.abc import Callable, Iterator
import dataclasses
from typing import Any, Literal

from flan_jax.checkpoints.huggingface import decoders
from flan_jax.checkpoints.huggingface import mapping
from flan_jax.models import config as model_config

_LAYER = (
    ('attention/query', 'attention.self.query'),
    ('attention/key', 'attention.self.key'),
    ('attention/value', 'attention.self.value'),
    ('attention/out', 'attention.output.dense'),
    ('mlp/wi', 'intermediate.dense'),
    ('mlp/wo', 'output.dense'),
)
_LAYER_NORMS = (
    ('post_attention_layer_norm', 'attention.output.LayerNorm'),
    ('post_mlp_layer_norm', 'output.LayerNorm'),
)
_HEAD = 'cls.predictions'


def _config(
    facts: mapping.Json, head: Literal['masked', 'score']
) -> model_config.EncoderConfig:
  """Returns the configuration that config.json describes."""
  mapping.require(facts, 'quantization_config', None)
  mapping.require(facts, 'is_decoder', False)
  mapping.require(facts, 'add_cross_attention', False)
  mapping.require(facts, 'position_embedding_type', 'absolute')
  mapping.require(facts, 'tie_word_embeddings', True)
  width = mapping.size(facts, 'hidden_size', 768)
  heads = mapping.size(facts, 'num_attention_heads', 12)
  if width % heads:
    raise mapping.unsupported(
        'num_attention_heads', heads, f'a divisor of {width}'
    )
  ids = mapping.size(facts, 'vocab_size', 30522)
  return model_config.EncoderConfig(
      vocab_size=decoders.table_rows(ids),
      num_ids=ids,
      emb_dim=width,
      num_heads=heads,
      head_dim=width // heads,
      mlp_dim=mapping.size(facts, 'intermediate_size', 3072),
      mlp_activations=(
          decoders.activation(facts, 'hidden_act', default='gelu'),
      ),
      num_layers=mapping.size(facts, 'num_hidden_layers', 12),
      dropout_rate=float(facts.get('hidden_dropout_prob', 0.1)),
      max_positions=mapping.size(facts, 'max_position_embeddings', 512),
      num_types=mapping.size(facts, 'type_vocab_size', 2),
      norm_epsilon=float(facts.get('layer_norm_eps', 1e-12)),
      head=head,
  )


def _to_json(config: model_config.EncoderConfig) -> dict[str, Any]:
  """Returns what config.json says of a model."""
  return {
      'model_type': 'bert',
      'vocab_size': config.num_ids,
      'hidden_size': config.emb_dim,
      'num_attention_heads': config.num_heads,
      'intermediate_size': config.mlp_dim,
      'num_hidden_layers': config.num_layers,
      'hidden_act': decoders.WRITTEN[config.mlp_activations[0]],
      'max_position_embeddings': config.max_positions,
      'type_vocab_size': config.num_types,
      'layer_norm_eps': config.norm_epsilon,
      'hidden_dropout_prob': config.dropout_rate,
      'attention_probs_dropout_prob': config.dropout_rate,
      'tie_word_embeddings': True,
  }


def _fits(head: str) -> Callable[[model_config.ModelConfig], bool]:
  """Returns what says whether a model can be written as BERT with a head."""
  return lambda config: (
      isinstance(config, model_config.EncoderConfig)
      and config.head == head
      and config.num_ids > 0
      and config.num_heads * config.head_dim == config.emb_dim
      and config.mlp_activations[0] in decoders.WRITTEN
  )


def _names(config: model_config.EncoderConfig) -> list[mapping.Entry]:
  """Returns the table of names."""
  rows = (1, config.num_ids, config.vocab_size)
  tables = 'bert.embeddings'
  found = [
      mapping.Entry(
          'token_embedder/embedding',
          f'{tables}.word_embeddings.weight',
          rows=rows,
          other_names=(f'{_HEAD}.decoder.weight',),
      ),
      mapping.Entry(
          'encoder/position_embedder/embedding',
          f'{tables}.position_embeddings.weight',
      ),
      mapping.Entry(
          'encoder/type_embedder/embedding',
          f'{tables}.token_type_embeddings.weight',
      ),
      *_norm('encoder/embedder_norm', f'{tables}.LayerNorm'),
  ]
  if config.head == 'score':
    found += _dense('score/pooler', 'bert.pooler.dense')
    found += _dense('score/out', 'classifier')
  else:
    found += _dense('head/dense', f'{_HEAD}.transform.dense')
    found += _norm('head/norm', f'{_HEAD}.transform.LayerNorm')
    found.append(
        mapping.Entry(
            'head/bias',
            f'{_HEAD}.bias',
            rows=rows,
            other_names=(f'{_HEAD}.decoder.bias',),
        )
    )
  for layer in range(config.num_layers):
    ours, theirs = f'encoder/layers_{layer}', f'bert.encoder.layer.{layer}'
    for own, name in _LAYER:
      found += _dense(f'{ours}/{own}', f'{theirs}.{name}')
    for own, name in _LAYER_NORMS:
      found += _norm(f'{ours}/{own}', f'{theirs}.{name}')
  return found


def _dense(ours: str, theirs: str) -> Iterator[mapping.Entry]:
  yield mapping.Entry(f'{ours}/kernel', f'{theirs}.weight', transpose=True)
  yield mapping.Entry(f'{ours}/bias', f'{theirs}.bias')


def _norm(ours: str, theirs: str) -> Iterator[mapping.Entry]:
  # The first files have TensorFlow's names of these.
  for own, name, first in (
      ('scale', 'weight', 'gamma'),
      ('bias', 'bias', 'beta'),
  ):
    yield mapping.Entry(
        f'{ours}/{own}', f'{theirs}.{name}', other_names=(f'{theirs}.{first}',)
    )


_MASKED = mapping.Architecture(
    config=lambda facts, _: _config(facts, 'masked'),
    to_json=_to_json,
    fits=_fits('masked'),
    names=_names,
    # Copies of tied parameters, a buffer, and what other tasks than saying
    # what is masked were trained for.
    ignored=(
        r'cls\.predictions\.decoder\.(weight|bias)',
        r'bert\.embeddings\.position_ids',
        r'bert\.pooler\.dense\.(weight|bias)',
        r'cls\.seq_relationship\.(weight|bias)',
    ),
)

ARCHITECTURES = {
    'BertForMaskedLM': _MASKED,
    # It has the same parameters and more, which are not kept.
    'BertForPreTraining': dataclasses.replace(_MASKED, fits=lambda _: False),
    # It scores pairs of a text and an option, laid out as ours.
    'BertForMultipleChoice': mapping.Architecture(
        config=lambda facts, _: _config(facts, 'score'),
        to_json=_to_json,
        fits=_fits('score'),
        names=_names,
        ignored=(r'bert\.embeddings\.position_ids',),
    ),
}
