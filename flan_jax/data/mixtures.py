"""Mixtures: tasks with weights, and what a name means."""

from collections.abc import Iterator, Sequence
import dataclasses

from flan_jax import errors
from flan_jax.data import catalogue as catalogue_lib
from flan_jax.data import specs
from flan_jax.data import tasks
import numpy as np


@dataclasses.dataclass(frozen=True)
class Mixture:
  """Tasks that are mixed.

  Attributes:
    name: The full name, as it was asked for.
    members: Tasks with their weights; mixtures within mixtures are flattened.
    cap: The most training examples of a task that are used; None for all.
    max_rate: The number of examples from which a task's rate stops growing.
  """

  name: str
  members: tuple[tuple[tasks.Task, float], ...]
  cap: int | None = None
  max_rate: int | None = None


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
  return _Resolver(catalogue).mixture(base, setting)


def parse_name(
    catalogue: catalogue_lib.Catalogue, name: str
) -> tuple[str, tasks.Setting]:
  """Splits a name into its dataset or mixture and the setting.

  What is declared under the whole name, with its colons, as SeqIO's tasks may
  be, is meant by it.

  Raises:
    UserError: As `tasks.parse_name`.
  """
  if catalogue.has(name):
    return name, tasks.Setting()
  return tasks.parse_name(name)


def as_mixture(task_or_mixture: tasks.Task | Mixture) -> Mixture:
  """Returns a mixture as it is, and a task as a mixture of one."""
  if isinstance(task_or_mixture, Mixture):
    return task_or_mixture
  return Mixture(task_or_mixture.name, ((task_or_mixture, 1.0),))


def rates(mixture: Mixture, sizes: Sequence[int] | np.ndarray) -> np.ndarray:
  """Examples-proportional mixing rates, with a maximum.

  The rate of a task is its weight times its number of examples, of which at
  most `max_rate` count (Raffel et al., 2020, section 3.5.2).

  Args:
    mixture: The mixture.
    sizes: The number of training examples of each member.

  Returns:
    float64 [number of members], not normalised; 0 for an empty member.
  """
  counts = np.asarray(sizes, np.float64)
  if counts.shape != (len(mixture.members),):
    raise ValueError(f'{counts.shape} sizes, {len(mixture.members)} members')
  for most in (mixture.cap, mixture.max_rate):
    if most is not None:
      counts = np.minimum(counts, most)
  return counts * np.array([weight for _, weight in mixture.members])


@dataclasses.dataclass(frozen=True)
class _Line:
  """A flattened member: its task, weight, and the mixtures it came through."""

  task: tasks.Task
  weight: float
  through: str


class _Resolver:
  """Flattens one mixture of a catalogue."""

  def __init__(self, catalogue: catalogue_lib.Catalogue):
    self._catalogue = catalogue
    self._open: list[str] = []

  def mixture(self, name: str, setting: tasks.Setting) -> Mixture:
    spec = self._catalogue.mixture(name)
    if name in self._open:
      chain = ' > '.join([*self._open, name])
      raise errors.UserError(f'{spec.path}: members: {chain} is a circle')
    self._open.append(name)
    limits: list[tuple[str, int | None, int | None]] = []
    by_name: dict[str, _Line] = {}
    for line in self._lines(spec, setting, limits):
      other = by_name.setdefault(line.task.name, line)
      if other is not line:
        raise errors.UserError(
            f"{spec.path}: members: '{line.task.name}' is a member twice"
            f'{_routes(other, line)}'
        )
    self._open.pop()
    if not by_name:
      raise errors.UserError(f'{spec.path}: {_empty(spec, setting.held_out)}')
    return Mixture(
        name=tasks.format_name(name, setting),
        members=tuple((line.task, line.weight) for line in by_name.values()),
        cap=_agreed(spec, 'cap', spec.cap, [(n, c) for n, c, _ in limits]),
        max_rate=_agreed(
            spec, 'max_rate', spec.max_rate, [(n, r) for n, _, r in limits]
        ),
    )

  def _lines(
      self,
      spec: specs.MixtureSpec,
      setting: tasks.Setting,
      limits: list[tuple[str, int | None, int | None]],
  ) -> Iterator[_Line]:
    """Yields the flattened members; notes inner mixtures' cap and max_rate."""
    out = self._held_out(spec)
    applied = dataclasses.replace(setting, held_out=False)
    if setting.held_out:
      for name in out:
        task = self._task(name, tasks.Setting(), applied)
        yield _Line(task, 1.0, '')
      return
    for member in spec.members:
      for name in self._names(spec, 'members', member):
        base, own = self._parse(spec, 'members', name)
        if self._catalogue.is_mixture(base):
          inner = self.mixture(base, own)
          kept = [m for m in inner.members if m[0].dataset.name not in out]
          if kept:
            limits.append((name, inner.cap, inner.max_rate))
          for task, weight in kept:
            again = self._task(task.dataset.name, task.setting, applied)
            yield _Line(again, weight * member.weight, name)
        elif base not in out:
          yield _Line(self._task(base, own, applied), member.weight, '')

  def _task(
      self, name: str, own: tasks.Setting, applied: tasks.Setting
  ) -> tasks.Task:
    dataset = self._catalogue.dataset(name)
    if applied.evaluation and not dataset.choices:
      applied = dataclasses.replace(applied, evaluation='')
    return tasks.create(dataset, tasks.combine(own, applied))

  def _held_out(self, spec: specs.MixtureSpec) -> dict[str, None]:
    """Returns the held-out datasets' names, in the order of the file."""
    found: dict[str, None] = {}
    for member in spec.held_out:
      for name in self._names(spec, 'held_out', member):
        base, own = self._parse(spec, 'held_out', name)
        if own != tasks.Setting() or self._catalogue.is_mixture(base):
          raise errors.UserError(
              f"{spec.path}: held_out: '{name}' must be a dataset's bare name"
          )
        found[base] = None
    return found

  def _parse(
      self, spec: specs.MixtureSpec, key: str, name: str
  ) -> tuple[str, tasks.Setting]:
    try:
      base, setting = parse_name(self._catalogue, name)
      self._catalogue.is_mixture(base)
    except errors.UserError as error:
      raise errors.UserError(f'{spec.path}: {key}: {error}') from error
    return base, setting

  def _names(
      self, spec: specs.MixtureSpec, key: str, member: specs.Member
  ) -> list[str]:
    if member.name:
      return [member.name]
    found = self._catalogue.select(
        cluster=member.cluster, collection=member.collection
    )
    if not found:
      wanted = ' and '.join(
          f"{kind} '{name}'"
          for kind, name in (
              ('cluster', member.cluster),
              ('collection', member.collection),
          )
          if name
      )
      raise errors.UserError(f'{spec.path}: {key}: no dataset has {wanted}')
    return found


def _routes(first: _Line, second: _Line) -> str:
  names = sorted({line.through for line in (first, second)} - {''})
  return f' (through {" and ".join(names)})' if names else ''


def _empty(spec: specs.MixtureSpec, held_out: bool) -> str:
  if not held_out:
    return f"'{spec.name}' has no members once held_out is taken away"
  return f"'{spec.name}' holds nothing out; name datasets under held_out"


def _agreed(
    spec: specs.MixtureSpec,
    key: str,
    own: int | None,
    inner: list[tuple[str, int | None]],
) -> int | None:
  """Returns what holds for all members, or says that they differ."""
  if own is not None or not inner:
    return own
  values = {value for _, value in inner}
  if len(values) > 1:
    listed = ', '.join(f'{name} {value}' for name, value in inner)
    raise errors.UserError(
        f'{spec.path}: {key}: the members differ ({listed}); give the {key} of'
        f" '{spec.name}' itself"
    )
  return values.pop()
