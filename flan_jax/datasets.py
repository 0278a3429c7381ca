"""Datasets for people who write Python: declare, register, read.

  from flan_jax import datasets

  datasets.register(datasets.Dataset(
      name='parity',
      cluster='arithmetic',
      source=datasets.Source(kind='generated', where='my_module:parity'),
      splits={'train': 'train', 'test': 'test'},
      fields={'number': 'number'},
      choices=datasets.Choices(label='label', names=('even', 'odd')),
      metrics=('accuracy',),
      templates=(
          datasets.Template(
              name='ask',
              inputs='Is {number} even or odd?\\n\\n{options}',
              targets='{answer}',
          ),
      ),
  ))
  for example in datasets.load('parity', 'test', limit=3):
    print(example.inputs, '->', example.targets)

A module that registers datasets is given to the commands with `--import`.
"""

from collections.abc import Sequence
import os

from flan_jax.data import catalogue as catalogue_lib
from flan_jax.data import examples
from flan_jax.data import mixtures as mixtures_lib
from flan_jax.data import pipeline
from flan_jax.data import rows
from flan_jax.data import specs

Choices = specs.Choices
Dataset = specs.Dataset
Example = examples.Example
Source = specs.Source
Template = specs.Template
register = catalogue_lib.register


def load(
    name: str,
    split: str = 'train',
    *,
    limit: int | None = None,
    seed: int = 0,
    mixtures: Sequence[str | os.PathLike[str]] = (),
    cache_dir: str | os.PathLike[str] | None = None,
    tfds_data_dir: str | None = None,
    data_dir: str | None = None,
) -> list[Example]:
  """Returns a task's examples, or those of a mixture's tasks one after another.

  Args:
    name: A task or mixture, such as 'rte:template_3:no_options'. `fit_shot`
      needs a vocabulary, so it is not for here.
    split: train, validation or test.
    limit: The most examples of each task; None for all.
    seed: Of the choice of templates, orders and exemplars.
    mixtures: Files and folders of further declarations.
    cache_dir: Where rows are stored; the usual place if not given.
    tfds_data_dir: Where TFDS datasets have been prepared.
    data_dir: Where files of sources are looked for last.

  Raises:
    UserError: The name is unknown, or data is missing or broken.
  """
  settings = rows.SourceSettings(tfds_data_dir=tfds_data_dir, data_dir=data_dir)
  store = rows.RowStore(cache_dir, settings)
  found = mixtures_lib.resolve(catalogue_lib.Catalogue(mixtures), name)
  loaded: list[Example] = []
  for task, _ in mixtures_lib.as_mixture(found).members:
    loaded += pipeline.examples(task, split, store, seed=seed, limit=limit)
  return loaded
