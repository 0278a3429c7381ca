"""Optimizers, importable without JAX, for gin.

Each is a few numbers; `create` makes the optax transformation that a step
needs, and `state_axes` says how its state is shared over a mesh. What all of
them can do (weight decay, clipping, groups of parameters, an average of the
parameters) is in `base.Optimizer`, so a new one writes its direction alone.
"""

from flan_jax.training.optimizers.adafactor import Adafactor
from flan_jax.training.optimizers.adamw import AdamW
from flan_jax.training.optimizers.base import averaged
from flan_jax.training.optimizers.base import Optimizer
from flan_jax.training.optimizers.base import State
from flan_jax.training.optimizers.groups import check_pattern
from flan_jax.training.optimizers.groups import ParameterGroup
from flan_jax.training.optimizers.lion import Lion
from flan_jax.training.optimizers.muon import Muon

ALL = (Adafactor, AdamW, Lion, Muon)

__all__ = (
    'ALL',
    'Adafactor',
    'AdamW',
    'Lion',
    'Muon',
    'Optimizer',
    'ParameterGroup',
    'State',
    'averaged',
    'check_pattern',
)
