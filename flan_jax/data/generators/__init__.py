"""Seeded generators of the rows of `mixtures/mini/`.

A generator is a function `f(split, seed)` that yields the rows of a split as
dicts of strings (or lists of strings). The same split and seed give the same
rows, whatever was generated before.
"""
