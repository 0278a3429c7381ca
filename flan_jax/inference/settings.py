"""How answers are written and options compared. Imports no JAX."""

import dataclasses
import math
from typing import get_args, Literal

from flan_jax import configuration
from flan_jax import errors

Method = Literal['greedy', 'sample', 'beam']

# How options of different lengths compare: by log-likelihood, by that over the
# number of tokens, or by what the input adds to it (arXiv 2104.08315).
Normalisation = Literal['sum', 'mean', 'pmi']
# What becomes of an input or option of too many tokens.
TooLong = Literal['cut', 'refuse']


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoding:
  """How answers are written, token by token.

  Attributes:
    method: 'greedy' takes the likeliest token at each step. 'sample' draws one.
      'beam' keeps the `num_beams` likeliest beginnings.
    temperature: For 'sample': logits are divided by it. Below 1 likely tokens
      become likelier; 0 is greedy.
    top_k: For 'sample': only the `top_k` likeliest tokens are drawn; 0 for all.
    top_p: For 'sample': only the likeliest tokens that together have this
      probability are drawn (arXiv 1904.09751), after `temperature` and `top_k`;
      1 for all.
    num_beams: For 'beam': how many beginnings are kept.
    alpha: For 'beam': sums of log-probabilities are divided by ((5 + length) /
      6) ** alpha (arXiv 1609.08144, equation 14), so that long answers have a
      chance; 0 does not divide.
    seed: For 'sample': with an example's key, what its text depends on.
    max_length: The most tokens of an answer, its end included; by default the
      run's length of targets.
  """

  method: Method = 'greedy'
  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  num_beams: int = 4
  alpha: float = 0.6
  seed: int = 0
  max_length: int | None = None

  def __post_init__(self):
    configuration.one_of('Decoding.method', self.method, get_args(Method))
    for name in ('temperature', 'top_p', 'alpha'):
      _finite(f'Decoding.{name}', getattr(self, name))
    if not 0 < self.top_p <= 1:
      raise errors.UserError(
          'Decoding.top_p: must be above 0 and at most 1 (all tokens), not'
          f' {self.top_p!r}'
      )
    configuration.whole_number('Decoding.top_k', self.top_k)
    configuration.whole_number('Decoding.num_beams', self.num_beams, 1)
    configuration.whole_number('Decoding.seed', self.seed)
    if self.max_length is not None:
      configuration.whole_number('Decoding.max_length', self.max_length, 1)


def _finite(name: str, value: float) -> None:
  """Checks that a setting is a number from 0 on that is not infinite."""
  configuration.number(name, value)
  if math.isinf(value):
    raise errors.UserError(f'{name}: must be a finite number, not {value!r}')
