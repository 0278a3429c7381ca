"""All that T5X needs to train on our datasets and mixtures, by their names.

    MIXTURE_OR_TASK_MODULE = 'flan_jax.t5x_tasks'
    MIXTURE_OR_TASK_NAME = 'rte:no_options'

Importing it makes the names known to SeqIO; see `seqio_tasks`, which says what
they are made with: FLAN_JAX_VOCABULARY, FLAN_JAX_MIXTURES and FLAN_JAX_CACHE in
the environment, or `configure`. gin/t5x/ has run files, and docs/t5x.md the
commands.
"""

from flan_jax import seqio_tasks

configure = seqio_tasks.configure
register = seqio_tasks.register
