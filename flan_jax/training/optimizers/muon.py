"""Muon for matrices, AdamW for the rest."""

import dataclasses
import math
import re
from typing import Any, TYPE_CHECKING

from flan_jax.training.optimizers import base
from flan_jax.training.optimizers import groups

if TYPE_CHECKING:
  import optax


@dataclasses.dataclass(frozen=True, kw_only=True)
class Muon(base.Optimizer):
  """Momentum, made orthogonal by Newton-Schulz iterations.

  Keller Jordan's optimizer (github.com/KellerJordan/Muon), for the matrices of
  the layers, each layer's alone; embeddings, logits, biases and scales are
  AdamW's, as there. An update is multiplied by sqrt(max(rows, columns)) times
  `consistent_rms`, so that one learning rate and one weight decay suit both
  kinds (arXiv 2502.16982, which takes AdamW's rate).

  Attributes:
    beta: The decay of the average of gradients.
    nesterov: Whether the gradient counts once more beside its average.
    ns_steps: Newton-Schulz iterations.
    consistent_rms: The root mean square of an orthogonal update; None takes
      Jordan's scale sqrt(max(1, columns / rows)), for which rates are larger.
    adam_names: A regular expression that matches the whole of T5X's name of
      each matrix that is AdamW's all the same.
    adam_b1: AdamW's decay of the mean of gradients.
    adam_b2: AdamW's decay of the mean of squared gradients.
    epsilon: Added to norms and roots that something is divided by.
  """

  beta: float = 0.95
  nesterov: bool = True
  ns_steps: int = 5
  consistent_rms: float | None = 0.2
  adam_names: str = '(.*/)?(token_embedder|relpos_bias|logits_dense)/.*'
  adam_b1: float = 0.9
  adam_b2: float = 0.999
  epsilon: float = 1e-8

  def __post_init__(self):
    super().__post_init__()
    groups.check_pattern('Muon.adam_names', self.adam_names)
    for field in ('beta', 'adam_b1', 'adam_b2'):
      groups.check_number(f'Muon.{field}', getattr(self, field), 0.0, 1.0)
    groups.check_number('Muon.epsilon', self.epsilon, 0.0)
    groups.check_number('Muon.ns_steps', self.ns_steps, 1)
    if self.consistent_rms is not None:
      groups.check_number('Muon.consistent_rms', self.consistent_rms, 0.0)

  def direction(
      self, params: Any, plan: groups.Plan
  ) -> 'optax.GradientTransformation':
    """See `base.Optimizer.direction`; the state is {'muon': ..., 'adam': ...}.

    A stack's first axis counts matrices, so optax makes each orthogonal alone.
    """
    import jax
    import optax
    from optax import contrib

    def sides(leaf: groups.Leaf, array: Any) -> Any:
      first = 1 if leaf.stacked else 0
      # Layers of one stack have names that differ in their numbers alone.
      if array.ndim - first != 2 or re.fullmatch(
          self.adam_names, leaf.names[0]
      ):
        return None
      return contrib.MuonDimensionNumbers(first, first + 1)

    trained = [leaf for leaf in plan.leaves if not leaf.frozen]
    arrays, structure = jax.tree.flatten(params)
    numbers = list(map(sides, trained, arrays))

    def only(leaves: Any, wanted: bool) -> Any:
      """Returns the tree of Muon's leaves, or of AdamW's."""
      return jax.tree.unflatten(
          structure,
          [
              leaf if (number is not None) == wanted else optax.MaskedNode()
              for leaf, number in zip(leaves, numbers, strict=True)
          ],
      )

    muon = contrib.scale_by_muon(
        ns_steps=self.ns_steps,
        beta=self.beta,
        eps=self.epsilon,
        nesterov=self.nesterov,
        weight_dimension_numbers=only(numbers, True),
    )
    adam = optax.scale_by_adam(self.adam_b1, self.adam_b2, self.epsilon)

    def init(params):
      leaves = jax.tree.leaves(params)
      return {
          'adam': adam.init(only(leaves, False)),
          'muon': muon.init(only(leaves, True)),
      }

    def update(gradients, state, params=None):
      del params
      leaves = jax.tree.leaves(gradients)
      matrices, muon_state = muon.update(only(leaves, True), state['muon'])
      others, adam_state = adam.update(only(leaves, False), state['adam'])
      matrix, other = map(iter, map(jax.tree.leaves, (matrices, others)))
      merged = [
          next(other) if number is None else self._scaled(next(matrix))
          for number in numbers
      ]
      return (
          jax.tree.unflatten(structure, merged),
          {'adam': adam_state, 'muon': muon_state},
      )

    return optax.GradientTransformation(init, update)

  def _scaled(self, update: Any) -> Any:
    rows, columns = update.shape[-2:]
    if self.consistent_rms is None:
      return math.sqrt(max(1, columns / rows)) * update
    return self.consistent_rms * math.sqrt(max(rows, columns)) * update
