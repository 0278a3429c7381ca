"""The architectures of `transformers` that can be read and written."""

from collections.abc import Mapping

from flan_jax.checkpoints.huggingface import bert
from flan_jax.checkpoints.huggingface import gemma
from flan_jax.checkpoints.huggingface import gpt2
from flan_jax.checkpoints.huggingface import llama
from flan_jax.checkpoints.huggingface import mapping
from flan_jax.checkpoints.huggingface import qwen
from flan_jax.checkpoints.huggingface import t5

ALL: Mapping[str, mapping.Architecture] = {
    **t5.ARCHITECTURES,
    **gpt2.ARCHITECTURES,
    **llama.ARCHITECTURES,
    **qwen.ARCHITECTURES,
    **gemma.ARCHITECTURES,
    **bert.ARCHITECTURES,
}
