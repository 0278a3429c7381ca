"""Packages flan_jax, with `gin/` and `mixtures/` carried along as data.

Both folders are mapped into the package (`package_dir`) rather than moved
there, so that one tree serves a checkout, an editable install and a wheel.
Metadata is in pyproject.toml.
"""

import setuptools

setuptools.setup(
    packages=(
        setuptools.find_packages(include=['flan_jax', 'flan_jax.*'])
        + ['flan_jax.gin', 'flan_jax.mixtures']
    ),
    package_dir={
        'flan_jax.gin': 'gin',
        'flan_jax.mixtures': 'mixtures',
    },
    package_data={
        'flan_jax': ['py.typed', '**/*.html', '**/*.css', '**/*.js'],
        'flan_jax.gin': ['**/*.gin'],
        'flan_jax.mixtures': ['**/*.yaml', '**/*.model', '**/*.tsv'],
    },
)
