"""Instruction tuning in JAX: from declared tasks to zero-shot scores."""

__version__ = '0.1.0'
