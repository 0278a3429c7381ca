"""Lion."""

import dataclasses
from typing import Any, TYPE_CHECKING

from flan_jax.training.optimizers import base
from flan_jax.training.optimizers import groups

if TYPE_CHECKING:
  import optax


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lion(base.Optimizer):
  """The sign of an average of gradients (arXiv 2302.06675).

  Every entry moves by the learning rate, so that is 3 to 10 times smaller than
  AdamW's, and the weight decay as many times larger.

  Attributes:
    b1: The average's share in the direction; the gradient has the rest.
    b2: The decay of the average.
  """

  b1: float = 0.9
  b2: float = 0.99

  def __post_init__(self):
    super().__post_init__()
    for field in ('b1', 'b2'):
      groups.check_number(f'Lion.{field}', getattr(self, field), 0.0, 1.0)

  def direction(
      self, params: Any, plan: groups.Plan
  ) -> 'optax.GradientTransformation':
    """See `base.Optimizer.direction`."""
    import optax

    del params, plan
    return optax.scale_by_lion(self.b1, self.b2)
