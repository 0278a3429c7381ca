"""Mixtures that follow from another: all of it but a cluster or a dataset.

A mixture that declares `leave_out` has, for each of its clusters and datasets,
a mixture `<mixture>_no_<name>`. It trains on the rest, less the clusters that
are declared to overlap with the one left out, and `:held_out` is what was left
out, a dataset's family included. They are made when they are asked for.
"""

from collections.abc import Iterator
import dataclasses

from flan_jax import errors
from flan_jax.data import selection
from flan_jax.data import specs

_BETWEEN = '_no_'


def bases(name: str) -> Iterator[str]:
  """Yields the names of the mixtures that a leave-out's name may be of."""
  place = name.find(_BETWEEN)
  while place > 0:
    yield name[:place]
    place = name.find(_BETWEEN, place + 1)


def names(
    catalogue: selection.Catalogue, spec: specs.MixtureSpec
) -> dict[str, str]:
  """Returns name -> cluster or dataset left out, for all of a mixture.

  Raises:
    UserError: A line of the mixture names what is not there.
  """
  if spec.leave_out is None:
    return {}
  datasets = selection.Selection(catalogue, spec).datasets
  clusters = sorted({catalogue.dataset(name).cluster for name in datasets})
  found = [*clusters, *(name for name in datasets if name not in clusters)]
  return {f'{spec.name}{_BETWEEN}{each}': each for each in found}


def find(catalogue: selection.Catalogue, name: str) -> specs.MixtureSpec | None:
  """Returns the leave-out of that name; None if it is none.

  Raises:
    UserError: The mixture's declaration has a mistake.
  """
  for base in bases(name):
    if catalogue.has(base) and catalogue.is_mixture(base):
      spec = catalogue.mixture(base)
      if spec.leave_out is not None:
        left_out = name[len(base + _BETWEEN) :]
        found = _derive(catalogue, spec, spec.leave_out, name, left_out)
        if found:
          return found
  return None


def _derive(
    catalogue: selection.Catalogue,
    spec: specs.MixtureSpec,
    rules: specs.LeaveOut,
    name: str,
    left_out: str,
) -> specs.MixtureSpec | None:
  chosen = selection.Selection(catalogue, spec)
  by_cluster: dict[str, list[str]] = {}
  for dataset in chosen.datasets:
    cluster = catalogue.dataset(dataset).cluster
    by_cluster.setdefault(cluster, []).append(dataset)
  _check_overlaps(spec, rules, list(by_cluster))
  if left_out in by_cluster:
    held_out = by_cluster[left_out]
    overlaps = rules.overlaps.get(left_out, ())
    what = f"'{spec.name}' without the cluster {left_out}"
  elif left_out in chosen.datasets:
    held_out, overlaps = [left_out], ()
    what = f"'{spec.name}' without {left_out}"
  else:
    return None
  if overlaps:
    what += f', nor {" and ".join(overlaps)}, which overlap with it'
  without = [
      *sorted(chosen.excluded),
      *(each for cluster in overlaps for each in by_cluster[cluster]),
  ]
  return dataclasses.replace(
      spec,
      name=name,
      description=f'{what}.',
      held_out=tuple(specs.Member(name=each) for each in held_out),
      without=tuple(specs.Member(name=each) for each in without),
      leave_out=None,
      series='',
  )


def _check_overlaps(
    spec: specs.MixtureSpec, rules: specs.LeaveOut, clusters: list[str]
) -> None:
  """Refuses clusters that are not there: data would leak unnoticed."""
  for cluster, others in rules.overlaps.items():
    for each in (cluster, *others):
      if each not in clusters:
        raise errors.UserError(
            f"{spec.path}: leave_out.overlaps: '{spec.name}' has no cluster"
            f" '{each}'.{errors.nearest(each, clusters)}"
        )
