"""Checkpoints of T5X, in its own format and in Orbax's, in and out."""
