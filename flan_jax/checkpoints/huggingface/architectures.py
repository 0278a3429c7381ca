"""The architectures of `transformers` that can be read and written."""

from collections.abc import Mapping

from flan_jax.checkpoints.huggingface import mapping
from flan_jax.checkpoints.huggingface import t5

ALL: Mapping[str, mapping.Architecture] = {**t5.ARCHITECTURES}
