"""Compiled programs are kept on disk, so that a second run starts at once."""

import os
import pathlib


def use_cache(cache_dir: pathlib.Path) -> None:
  """Keeps what XLA compiles under `cache_dir`/jax.

  JAX's own settings win: JAX_COMPILATION_CACHE_DIR names another folder, and
  JAX_ENABLE_COMPILATION_CACHE=0 switches it off.

  Args:
    cache_dir: The cache directory, which need not exist.
  """
  import jax

  if os.environ.get('JAX_COMPILATION_CACHE_DIR'):
    return
  jax.config.update('jax_compilation_cache_dir', str(cache_dir / 'jax'))
  # Small programs are many at start-up, and each costs a tenth of a second.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.05)
