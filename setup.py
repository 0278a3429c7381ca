"""Packages flan_jax, with `gin/` and `mixtures/` carried along as data.

Both folders are mapped into the package (`package_dir`) rather than moved
there, so that one tree serves a checkout, an editable install and a wheel.
Metadata is in pyproject.toml.
"""

import pathlib

import setuptools


def _data_packages(folder: str) -> list[str]:
  """Returns `folder` and the folders in it as packages of flan_jax.

  Setuptools takes every folder with data for a package, and warns at length
  of those that are not named.
  """
  within = (path for path in pathlib.Path(folder).rglob('*') if path.is_dir())
  names = sorted('.'.join(path.parts) for path in within)
  return [f'flan_jax.{name}' for name in [folder, *names]]


setuptools.setup(
    packages=(
        setuptools.find_packages(include=['flan_jax', 'flan_jax.*'])
        + _data_packages('gin')
        + _data_packages('mixtures')
    ),
    package_dir={
        'flan_jax.gin': 'gin',
        'flan_jax.mixtures': 'mixtures',
    },
    package_data={
        'flan_jax': ['py.typed'],
        'flan_jax.evaluation.report': ['*.html', '*.css', '*.js'],
        'flan_jax.training.comparison': ['*.html', '*.css', '*.js'],
        '': ['*.gin', '*.yaml', '*.model'],
    },
)
