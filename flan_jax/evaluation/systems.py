"""Who is evaluated: checkpoints, what they started from, and blind guesses.

Nothing here needs jax, so a mistyped path is found at once.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
import dataclasses
from typing import Any

from flan_jax.checkpoints import bases
from flan_jax.checkpoints import places
from flan_jax.checkpoints import runs
from flan_jax.evaluation import settings as settings_lib
from flan_jax.evaluation import summary

# Systems that are no models, in the order of the table's last columns.
GUESSES = ('majority', 'random')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """A checkpoint that is evaluated.

  Attributes:
    name: What tables and files call it.
    kind: 'tuned' or 'untuned'.
    path: As it was given.
    place: Where it is.
    untuned: The name of the model to compare it with; None for none.
  """

  name: str
  kind: str
  path: str
  place: places.Place
  untuned: str | None = None

  @property
  def run(self) -> dict[str, Any]:
    """The facts of its run."""
    return self.place.run

  @property
  def base(self) -> str | None:
    """The fingerprint of what its run's adapters belong to; None: of none."""
    adapter = bases.Adapter.of_run(self.run, self.place.directory)
    return None if adapter is None else adapter.base.fingerprint

  def facts(
      self, clusters: Collection[str], parameters: int | None = None
  ) -> dict[str, Any]:
    """Returns what results.json says of it.

    Args:
      clusters: The clusters of what it was trained on.
      parameters: How many it has; by default what its run says.
    """
    found: dict[str, Any] = {
        'kind': self.kind,
        'checkpoint': self.path,
        'step': self.place.step,
        'parameters': parameters or self.run.get('parameters'),
    }
    if self.kind == 'tuned':
      found['untuned'] = self.untuned
      found['mixture'] = self.run.get('mixture')
      found['training_clusters'] = sorted(clusters)
    return found


def find(settings: settings_lib.Eval) -> tuple[list[Model], list[str]]:
  """Looks up the checkpoints that are asked for, and those beside them.

  Returns:
    The tuned models in their order, then the untuned ones; and lines on those
    that have none to compare with.

  Raises:
    UserError: There is no such checkpoint.
  """
  given = settings.untuned_checkpoint_path
  notes: list[str] = []
  tuned: list[Model] = []
  untuned: dict[str, str] = {}  # By path, the label of the first user.
  paths: list[str | None] = []
  starts: dict[str, str] = {}  # By base, the first of the runs on it.
  for label, path in settings.checkpoints.items():
    place = places.locate(path)
    if given == settings_lib.NONE:
      beside = None
    elif given is not None:
      beside = given
    else:
      beside = _start(place, path, notes)
    adapter = bases.Adapter.of_run(place.run, place.directory)
    if beside is not None and given is None and adapter is not None:
      # What adapters begin with is their base, whichever run's they are.
      beside = starts.setdefault(adapter.base.fingerprint, beside)
    if beside is not None:
      untuned.setdefault(beside, label)
    paths.append(beside)
    tuned.append(
        Model(
            name=label,
            kind='tuned',
            path=path,
            place=place,
        )
    )
  alone = len(untuned) == 1
  names = {
      path: 'untuned' if alone else f'{label} untuned'
      for path, label in untuned.items()
  }
  found = [
      dataclasses.replace(each, untuned=names[path] if path else None)
      for each, path in zip(tuned, paths, strict=True)
  ]
  for path, name in names.items():
    found.append(
        Model(name=name, kind='untuned', path=path, place=places.locate(path))
    )
  return found, notes


def _start(place: places.Place, path: str, notes: list[str]) -> str | None:
  """Returns the checkpoint that a run started from, or says why none."""
  first = place.run.get('initial_step', 0)
  if not place.native:
    why = 'says nothing of what it started from'
  elif place.step == first:
    why = 'is the untuned model itself'
  elif first in runs.steps(place.directory):
    return str(runs.step_path(place.directory, first))
  else:
    why = f'has no checkpoint_{first}'
  notes.append(
      f'{path} {why}, so there is none to compare with;'
      ' UNTUNED_CHECKPOINT_PATH can name one'
  )
  return None


def by_run(models: Iterable[Model]) -> list[Model]:
  """Returns models so that those of one run, or one base, follow each other.

  They share compiled programs, and what the base of adapters is read from.
  """
  found: dict[str, list[Model]] = {}
  for model in models:
    key = model.base or str(model.place.directory)
    found.setdefault(key, []).append(model)
  return [model for group in found.values() for model in group]


def tuned(described: Mapping[str, Mapping[str, Any]]) -> list[str]:
  """Returns the names of the tuned models of results.json's 'systems'."""
  return [n for n, facts in described.items() if facts['kind'] == 'tuned']


def roles(
    described: Mapping[str, Mapping[str, Any]], best_template: bool
) -> summary.Roles:
  """Returns what the systems of results.json are to each other."""
  judged = [
      name for name, facts in described.items() if facts['kind'] not in GUESSES
  ]
  return summary.Roles(
      models=tuned(described), judged=judged if best_template else ()
  )


def titles(described: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
  """Returns the names of systems as a page writes them."""
  written = {
      settings_lib.TUNED: 'Tuned',
      'untuned': 'Untuned',
      'majority': 'Majority class',
      'random': 'Random choice',
  }
  return {
      name: (
          name
          if facts['kind'] == 'tuned' and name != settings_lib.TUNED
          else written.get(name, name)
      )
      for name, facts in described.items()
  }


def cut_names(names: Sequence[str], width: int) -> list[str]:
  """Returns names of at most `width` letters that still differ."""
  short = [
      name if len(name) <= width else f'{name[: width - 4]}...'
      for name in names
  ]
  return [
      name if short.count(name) == 1 else f'{name[: width - 4]}~{place}'
      for place, name in enumerate(short, start=1)
  ]
