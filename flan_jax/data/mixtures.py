"""Mixtures: tasks and mixtures with weights, and what a name means."""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
from typing import Union

from flan_jax import errors
from flan_jax.data import catalogue as catalogue_lib
from flan_jax.data import selection
from flan_jax.data import specs
from flan_jax.data import tasks
import numpy as np

Part = Union[tasks.Task, 'Mixture']

parse_name = selection.parse_name


@dataclasses.dataclass(frozen=True)
class Mixture:
  """Tasks, and mixtures of tasks, that are mixed.

  Attributes:
    name: The full name, as it was asked for.
    parts: Tasks and mixtures with their weights.
    cap: The most training examples of a task that are used; None for all.
    max_rate: The number of examples from which the rate of a task among
      `parts` stops growing.
    rule: How rates come about; see `rates`.
  """

  name: str
  parts: tuple[tuple[Part, float], ...]
  cap: int | None = None
  max_rate: int | None = None
  rule: specs.Rates = specs.Rates()

  @functools.cached_property
  def members(self) -> tuple[tuple[tasks.Task, float], ...]:
    """All tasks, those of mixtures within included; weights multiplied."""
    found: list[tuple[tasks.Task, float]] = []
    for part, weight in self.parts:
      if isinstance(part, Mixture):
        found += [(task, weight * inner) for task, inner in part.members]
      else:
        found.append((part, weight))
    return tuple(found)

  @property
  def caps(self) -> np.ndarray | None:
    """The most examples used of each member, int64 [members].

    None if there is no limit to any. A task in a mixture within a mixture
    keeps to the lowest cap of both.
    """
    caps: list[np.ndarray] = []
    none = np.iinfo(np.int64).max
    for part, _ in self.parts:
      inner = part.caps if isinstance(part, Mixture) else None
      size = len(part.members) if isinstance(part, Mixture) else 1
      caps.append(np.full(size, none) if inner is None else inner)
    found = np.concatenate(caps) if caps else np.zeros(0, np.int64)
    if self.cap is not None:
      found = np.minimum(found, self.cap)
    return None if (found == none).all() else found

  def only(self, keep: Callable[[tasks.Task], bool]) -> 'Mixture':
    """Returns the mixture of the members that `keep` is true of."""
    parts: list[tuple[Part, float]] = []
    for part, weight in self.parts:
      if isinstance(part, Mixture):
        inner = part.only(keep)
        if inner.parts:
          parts.append((inner, weight))
      elif keep(part):
        parts.append((part, weight))
    return dataclasses.replace(self, parts=tuple(parts))


def resolve(
    catalogue: catalogue_lib.Catalogue, name: str
) -> tasks.Task | Mixture:
  """Returns what a name means.

  A setting after a mixture's name holds for every member: `rank` and
  `generate` for those members that have choices, all else for all.

  Raises:
    UserError: The name is unknown or misspelled, a declaration has a mistake,
      or a mixture has no members.
  """
  base, setting = parse_name(catalogue, name)
  if not catalogue.is_mixture(base):
    return tasks.create(catalogue.dataset(base), setting)
  return _mixture(catalogue, base, setting)


def as_mixture(task_or_mixture: tasks.Task | Mixture) -> Mixture:
  """Returns a mixture as it is, and a task as a mixture of one."""
  if isinstance(task_or_mixture, Mixture):
    return task_or_mixture
  return Mixture(task_or_mixture.name, ((task_or_mixture, 1.0),))


def rates(mixture: Mixture, sizes: Sequence[int] | np.ndarray) -> np.ndarray:
  """How often each member is drawn, relative to the others.

  With n the examples of a task in use (at most `cap`), of which at most
  `max_rate` count, the rate of a part is its weight times

    proportional  n
    temperature   n ** (1 / T)
    equal         1
    explicit      1, so that the weights are the rates

  These are the mixing rates of T5 (Raffel et al., 2020, section 3.5.2); the
  maximum comes before the temperature, as in `seqio.mixing_rate_num_examples`.

  A mixture within a mixture keeps its own proportions: its members share what
  it gets from outside. There it counts for as many examples as its members
  count inside (their weights included if its rates hang on examples), so a
  proportional mixture in a proportional one is the same as its members written
  out. `max_rate` is about single tasks, so that of the outer one is not
  applied to it.

  Args:
    mixture: The mixture.
    sizes: The number of training examples of each member.

  Returns:
    float64 [number of members], not normalised; 0 for an empty member.
  """
  counts = np.asarray(sizes, np.float64)
  if counts.shape != (len(mixture.members),):
    raise ValueError(f'{counts.shape} sizes, {len(mixture.members)} members')
  caps = mixture.caps
  return _rates(mixture, counts if caps is None else np.minimum(counts, caps))


def _rates(mixture: Mixture, counts: np.ndarray) -> np.ndarray:
  found = []
  for part, weight, inner in _with_counts(mixture, counts):
    rate = weight * _rate(mixture.rule, _examples(mixture, part, inner))
    shares = _rates(part, inner) if isinstance(part, Mixture) else np.ones(1)
    found.append(rate * shares / (shares.sum() or 1.0))
  return np.concatenate(found)


def _rate(rule: specs.Rates, examples: float) -> float:
  if not examples:
    return 0.0
  if rule.kind == 'proportional':
    return examples
  if rule.kind == 'temperature':
    return examples ** (1 / rule.temperature)
  return 1.0


def _examples(mixture: Mixture, part: Part, counts: np.ndarray) -> float:
  """Returns for how many examples a part of a mixture counts."""
  if not isinstance(part, Mixture):
    most = np.inf if mixture.max_rate is None else mixture.max_rate
    return min(float(counts[0]), most)
  by_weight = part.rule.kind in ('proportional', 'temperature')
  return sum(
      (weight if by_weight else 1.0) * _examples(part, each, inner)
      for each, weight, inner in _with_counts(part, counts)
  )


def _with_counts(
    mixture: Mixture, counts: np.ndarray
) -> Iterator[tuple[Part, float, np.ndarray]]:
  """Yields each part, its weight and the counts of its members."""
  first = 0
  for part, weight in mixture.parts:
    size = len(part.members) if isinstance(part, Mixture) else 1
    yield part, weight, counts[first : first + size]
    first += size


def _mixture(
    catalogue: catalogue_lib.Catalogue, name: str, setting: tasks.Setting
) -> Mixture:
  """Returns a mixture, those within it resolved."""
  spec = catalogue.mixture(name)
  chosen = selection.Selection(catalogue, spec)
  applied = dataclasses.replace(setting, held_out=False)
  parts: list[tuple[Part, float]] = []
  if setting.held_out:
    for each in chosen.held_out:
      task = _task(catalogue, each, tasks.Setting(), applied)
      parts.append((task, 1.0))
  else:
    for member in chosen.members():
      if not catalogue.is_mixture(member.base):
        task = _task(catalogue, member.base, member.setting, applied)
        parts.append((task, member.weight))
        continue
      inner = _mixture(catalogue, member.base, member.setting)
      inner = _applied(catalogue, inner, applied).only(
          lambda task: task.dataset.name not in chosen.excluded
      )
      if inner.parts:
        parts.append((inner, member.weight))
  if not parts:
    raise errors.UserError(f'{spec.path}: {_empty(spec, setting.held_out)}')
  _check_members(spec, parts)
  return Mixture(
      name=tasks.format_name(name, setting),
      parts=tuple(parts),
      cap=spec.cap,
      max_rate=spec.max_rate,
      # Weights are for members, and explicit rates are nothing else.
      rule=specs.Rates() if setting.held_out else spec.rates,
  )


def _task(
    catalogue: catalogue_lib.Catalogue,
    name: str,
    own: tasks.Setting,
    applied: tasks.Setting,
) -> tasks.Task:
  dataset = catalogue.dataset(name)
  if applied.evaluation and not dataset.choices:
    applied = dataclasses.replace(applied, evaluation='')
  return tasks.create(dataset, tasks.combine(own, applied))


def _applied(
    catalogue: catalogue_lib.Catalogue, mixture: Mixture, setting: tasks.Setting
) -> Mixture:
  """Returns a mixture whose tasks have a setting from outside."""
  parts: list[tuple[Part, float]] = []
  for part, weight in mixture.parts:
    if isinstance(part, Mixture):
      parts.append((_applied(catalogue, part, setting), weight))
    else:
      task = _task(catalogue, part.dataset.name, part.setting, setting)
      parts.append((task, weight))
  return dataclasses.replace(mixture, parts=tuple(parts))


def _check_members(
    spec: specs.MixtureSpec, parts: Sequence[tuple[Part, float]]
) -> None:
  """Refuses a task that is a member twice."""
  through: dict[str, str] = {}
  for part, _ in parts:
    inner = isinstance(part, Mixture)
    tasks_of = part.members if isinstance(part, Mixture) else ((part, 1.0),)
    for task, _ in tasks_of:
      route = part.name if inner else ''
      if task.name in through:
        names = sorted({through[task.name], route} - {''})
        routes = f' (through {" and ".join(names)})' if names else ''
        raise errors.UserError(
            f"{spec.path}: members: '{task.name}' is a member twice{routes}"
        )
      through[task.name] = route


def _empty(spec: specs.MixtureSpec, held_out: bool) -> str:
  if not held_out:
    return f"'{spec.name}' has no members once held_out is taken away"
  return f"'{spec.name}' holds nothing out; name datasets under held_out"
