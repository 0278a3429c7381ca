"""What a mixture is made of: examples, rates, and shares of each member."""

import dataclasses

from flan_jax.data import blocks
from flan_jax.data import mixing
from flan_jax.data import mixtures
from flan_jax.data import splits
import numpy as np

# Packed to see how many examples share a row.
_PACKED_BLOCKS, _BLOCK = 2, 2048


@dataclasses.dataclass(frozen=True)
class Shares:
  """The numbers of each member, in the order of the mixture.

  Attributes:
    rows: Training examples that there are, int64 [members].
    examples: Those in use: at most the cap.
    rates: How often it is drawn, relative to the others; see `mixtures.rates`.
    of_examples: Its expected share of the examples drawn.
    input_tokens: Mean tokens of inputs, ends included, after cutting.
    target_tokens: The same of targets.
  """

  rows: np.ndarray
  examples: np.ndarray
  rates: np.ndarray
  of_examples: np.ndarray
  input_tokens: np.ndarray
  target_tokens: np.ndarray

  @property
  def tokens(self) -> np.ndarray:
    """Mean tokens of an example, inputs and targets."""
    return self.input_tokens + self.target_tokens

  @property
  def of_tokens(self) -> np.ndarray:
    """Expected share of the tokens drawn."""
    tokens = self.of_examples * self.tokens
    return tokens / tokens.sum()


def measure(members: blocks.Members, sample: int) -> Shares:
  """Computes shares, and looks at some examples of each member for tokens.

  Args:
    members: All of a mixture.
    sample: How many examples of each member are rendered: a seeded choice.

  Raises:
    UserError: Rows cannot be had, or do not suit their templates.
  """
  mixture = members.mixture
  rows = members.sizes()
  caps = mixture.caps
  rates = mixtures.rates(mixture, rows)
  tokens = [
      _tokens(members, number, int(count), sample)
      for number, count in enumerate(rows)
  ]
  input_tokens, target_tokens = np.array(tokens).reshape(-1, 2).T
  return Shares(
      rows=rows,
      examples=rows if caps is None else np.minimum(rows, caps),
      rates=rates,
      of_examples=rates / rates.sum(),
      input_tokens=input_tokens,
      target_tokens=target_tokens,
  )


def _tokens(
    members: blocks.Members, number: int, count: int, sample: int
) -> tuple[float, float]:
  """Returns the mean tokens of inputs and targets of a member's examples."""
  task, _ = members.mixture.members[number]
  chosen = splits.sample(count, min(sample, count), members.seed, task.name)
  here = np.full_like(chosen, number)
  draws = mixing.Draws(here, chosen, np.zeros_like(chosen))
  ((_, examples, _, _, inputs, targets),) = members.block(
      draws, pack=False
  ).tally
  return inputs / examples, targets / examples


def examples_per_row(members: blocks.Members, shares: Shares) -> float:
  """Returns how many examples a packed row holds, from the first few blocks."""
  index_map = mixing.IndexMap(
      [task.name for task, _ in members.mixture.members],
      shares.rows,
      shares.rates,
      seed=members.seed,
      cap=members.mixture.caps,
  )
  packed = blocks.Blocks(members, index_map, _BLOCK, pack=True, shuffle=True)
  rows = sum(len(packed.build(n).rows) for n in range(_PACKED_BLOCKS))
  return _PACKED_BLOCKS * _BLOCK / rows
