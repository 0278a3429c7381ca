"""Tasks: a dataset under one setting, and how they are called.

A name is the dataset's or mixture's, then the parts that differ from the
default, each after a ':', in this order:

  held_out                                 a mixture's held-out datasets
  template_<name or number>, <n>_templates, no_template, name_only
  <k>_shot, fit_shot
  no_options, random_options
  rank, generate                           for evaluation
"""

import dataclasses

from flan_jax.data import specs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """How a dataset is put to the model; the defaults are the plain name's.

  Attributes:
    held_out: A mixture's held-out datasets instead of its members.
    template: One template alone, by name or by number from 0.
    num_templates: Only the first so many templates.
    baseline: 'no_template' (the fields alone), 'name_only' (the dataset's name
      and the fields), or ''.
    shots: How many exemplars precede the example; 'fit' for as many as fit.
    options: Options are 'shown', 'hidden', or shown in 'random' order.
    evaluation: 'rank', 'generate', or '' for what suits the dataset.
  """

  held_out: bool = False
  template: str = ''
  num_templates: int | None = None
  baseline: str = ''
  shots: int | str = 0
  options: str = 'shown'
  evaluation: str = ''


@dataclasses.dataclass(frozen=True)
class Task:
  """A dataset under one setting.

  Attributes:
    name: The full name, as `format_name` writes it.
    dataset: The declaration.
    setting: The setting.
  """

  name: str
  dataset: specs.Dataset
  setting: Setting = Setting()
