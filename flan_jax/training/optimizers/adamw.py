"""AdamW."""

import dataclasses
from typing import Any, TYPE_CHECKING

from flan_jax.training.optimizers import base
from flan_jax.training.optimizers import groups

if TYPE_CHECKING:
  import optax


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(base.Optimizer):
  """Adam with decoupled weight decay (arXiv 1412.6980, 1711.05101).

  Attributes:
    b1: The decay of the mean of gradients.
    b2: The decay of the mean of squared gradients.
    epsilon: Added to the root of the second.
  """

  b1: float = 0.9
  b2: float = 0.999
  epsilon: float = 1e-8

  def __post_init__(self):
    super().__post_init__()
    for field in ('b1', 'b2'):
      groups.check_number(f'AdamW.{field}', getattr(self, field), 0.0, 1.0)
    groups.check_number('AdamW.epsilon', self.epsilon, 0.0)

  def direction(
      self, params: Any, plan: groups.Plan
  ) -> 'optax.GradientTransformation':
    """See `base.Optimizer.direction`."""
    import optax

    del params, plan
    return optax.scale_by_adam(self.b1, self.b2, self.epsilon)
