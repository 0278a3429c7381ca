"""`python -m flan_jax`: the same as the `flan-jax` command."""

import sys

from flan_jax import cli

sys.exit(cli.main())
