"""From rows to fields, for datasets whose rows need more than renaming.

A module for each cluster. A declaration names one of their functions, or the
user's own: `fields: flan_jax.data.fields.reading_comprehension:squad`, with
the fields listed in `field_names`. A function takes a row (a dict as the source
gives it) and returns a new dict of texts, lists of texts, and the label as it
is. It must not change the row. A function that `keep` names returns whether a
row is one of the dataset's examples.

What the rows hold was read from the datasets themselves; what FLAN does with
them, and which of it is a mistake, is in the FLAN 2021 registry (Wei et al.,
arXiv 2109.01652, and its released code).
"""
