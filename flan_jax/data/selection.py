"""Which datasets the lines of a mixture's declaration mean."""

from collections.abc import Iterator, Sequence
import dataclasses
import itertools
from typing import Protocol

from flan_jax import errors
from flan_jax.data import seeding
from flan_jax.data import specs
from flan_jax.data import tasks


class Catalogue(Protocol):
  """What is needed of `catalogue.Catalogue`."""

  def has(self, name: str) -> bool:
    ...

  def is_mixture(self, name: str) -> bool:
    ...

  def dataset(self, name: str) -> specs.Dataset:
    ...

  def mixture(self, name: str) -> specs.MixtureSpec:
    ...

  def select(
      self, *, cluster: str = '', subcluster: str = '', collection: str = ''
  ) -> list[str]:
    ...


@dataclasses.dataclass(frozen=True)
class Chosen:
  """A member after its line has been read.

  Attributes:
    base: A dataset's or mixture's name.
    setting: What follows it.
    weight: Of the line.
    written: The whole name.
  """

  base: str
  setting: tasks.Setting
  weight: float
  written: str


def parse_name(catalogue: Catalogue, name: str) -> tuple[str, tasks.Setting]:
  """Splits a name into its dataset or mixture and the setting.

  What is declared under the whole name, with its colons, as SeqIO's tasks may
  be, is meant by it.

  Raises:
    UserError: As `tasks.parse_name`.
  """
  if catalogue.has(name):
    return name, tasks.Setting()
  return tasks.parse_name(name)


def trains(dataset: specs.Dataset) -> bool:
  """Whether there is anything to train on; else it is for evaluation only."""
  return 'train' in dataset.splits


class Selection:
  """The datasets of one mixture.

  Attributes:
    datasets: All that it is about, in the order of its lines: those that are
      trained on, those for evaluation only, those taken out.
    held_out: What `:held_out` means: the datasets named, then those of their
      families among `datasets`.
    excluded: What training must never draw: all held out, and what `without`
      takes out.
  """

  def __init__(self, catalogue: Catalogue, spec: specs.MixtureSpec):
    """Reads the lines.

    Raises:
      UserError: A line names what is not there, or mixtures go in a circle.
    """
    self._catalogue = catalogue
    self._spec = spec
    named = self._names('held_out', spec.held_out)
    without = self._names('without', spec.without)
    found = dict.fromkeys(self._datasets(spec, []))
    self.datasets = tuple(dict.fromkeys([*found, *named, *without]))
    families = {catalogue.dataset(name).family for name in named} - {''}
    mates = [
        name
        for name in self.datasets
        if families and catalogue.dataset(name).family in families
    ]
    self.held_out = tuple(dict.fromkeys([*named, *mates]))
    self.excluded = frozenset([*self.held_out, *without])

  def members(self) -> list[Chosen]:
    """Returns what is trained on, in the order of the lines.

    Datasets for evaluation only are left out where a line selects them by
    cluster or collection.

    Raises:
      UserError: A line names one of those.
    """
    lines = []
    for member in self._spec.members:
      line = []
      for chosen in _expand(self._catalogue, self._spec, member):
        if self._catalogue.is_mixture(chosen.base):
          line.append(chosen)
        elif trains(self._catalogue.dataset(chosen.base)):
          if chosen.base not in self.excluded:
            line.append(chosen)
        elif (member.name or member.names) and self._spec.path.name:
          self._refuse(chosen)
      lines.append(line)
    return _sample(lines, self._spec.sample)

  def _refuse(self, chosen: Chosen) -> None:
    raise errors.UserError(
        f"{self._spec.path}: members: '{chosen.base}' is for evaluation only"
        " (it has no split 'train'); name it under held_out"
    )

  def _names(self, key: str, lines: Sequence[specs.Member]) -> list[str]:
    """Returns the datasets that lines of `held_out` or `without` mean."""
    found: dict[str, None] = {}
    for line in lines:
      for chosen in _expand(self._catalogue, self._spec, line, key):
        if chosen.setting != tasks.Setting() or self._catalogue.is_mixture(
            chosen.base
        ):
          raise errors.UserError(
              f"{self._spec.path}: {key}: '{chosen.written}' must be a"
              " dataset's bare name"
          )
        found[chosen.base] = None
    return list(found)

  def _datasets(
      self, spec: specs.MixtureSpec, around: list[str]
  ) -> Iterator[str]:
    """Yields the datasets of a mixture's members, those within it included."""
    if spec.name in around:
      chain = ' > '.join([*around, spec.name])
      raise errors.UserError(f'{spec.path}: members: {chain} is a circle')
    for member in spec.members:
      for chosen in _expand(self._catalogue, spec, member):
        if self._catalogue.is_mixture(chosen.base):
          inner = self._catalogue.mixture(chosen.base)
          yield from self._datasets(inner, [*around, spec.name])
          yield from Selection(self._catalogue, inner).held_out
        else:
          yield chosen.base


def _expand(
    catalogue: Catalogue,
    spec: specs.MixtureSpec,
    member: specs.Member,
    key: str = 'members',
) -> Iterator[Chosen]:
  """Yields what one line means.

  Raises:
    UserError: There is no such name, cluster or collection.
  """
  weight = 1.0 if member.weight is None else member.weight
  for name in _selected(catalogue, spec, member, key):
    try:
      base, setting = parse_name(catalogue, name)
      catalogue.is_mixture(base)
    except errors.UserError as error:
      raise errors.UserError(f'{spec.path}: {key}: {error}') from error
    yield Chosen(base, setting, weight, name)


def _selected(
    catalogue: Catalogue,
    spec: specs.MixtureSpec,
    member: specs.Member,
    key: str,
) -> Sequence[str]:
  if member.name:
    return [member.name]
  if member.names:
    if member.turn is None:
      return member.names
    return [member.names[member.turn % len(member.names)]]
  selectors = {
      'cluster': member.cluster,
      'subcluster': member.subcluster,
      'collection': member.collection,
  }
  found = catalogue.select(**selectors)
  if not found:
    wanted = ' and '.join(f"{k} '{v}'" for k, v in selectors.items() if v)
    raise errors.UserError(f'{spec.path}: {key}: no dataset has {wanted}')
  return found


def _sample(
    lines: Sequence[Sequence[Chosen]], sample: specs.Sample | None
) -> list[Chosen]:
  if sample is None:
    return list(itertools.chain.from_iterable(lines))
  lines = [list(line) for line in lines[: sample.lines]]
  if sample.seed is not None:
    lines = [_shuffled(line, sample.seed) for line in lines]
  lines = [line[: sample.per_line] for line in lines]
  if sample.datasets is None:
    return list(itertools.chain.from_iterable(lines))
  turns = itertools.zip_longest(*lines)
  taken = [chosen for turn in turns for chosen in turn if chosen is not None]
  return taken[: sample.datasets]


def _shuffled(line: Sequence[Chosen], seed: int) -> list[Chosen]:
  """Puts a line in an order in which each one's place hangs on its name."""
  names = [seeding.name_seed(chosen.written) for chosen in line]
  hashes = [int(seeding.hash_ints(seed, name)[0]) for name in names]
  by_hash = sorted(zip(hashes, line, strict=True), key=lambda pair: pair[0])
  return [chosen for _, chosen in by_hash]
