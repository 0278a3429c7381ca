"""How systems look on the page: names, and classes of colors."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from flan_jax.evaluation import systems as systems_lib

# style.css has a color for each.
STYLES = ('tuned', 'model-2', 'model-3', 'model-4', 'model-5', 'model-6')


@dataclasses.dataclass(frozen=True)
class Shown:
  """A system on the page.

  Attributes:
    system: Its name in results.json.
    title: Its name on the page.
    style: The classes of its marks.
    kind: 'tuned', 'untuned', 'majority' or 'random'.
  """

  system: str
  title: str
  style: str
  kind: str

  @property
  def swatch(self) -> str:
    """The classes of the color alone."""
    color, *others = self.style.split()
    return ' '.join([f'{color}-color', *others])


def shown(described: Mapping[str, Mapping[str, Any]]) -> list[Shown]:
  """Returns the systems of results.json, in their order.

  Where models have untuned ones of their own, these have their colors, pale.
  """
  titles = systems_lib.titles(described)
  tuned = systems_lib.tuned(described)
  colors = {
      name: STYLES[place % len(STYLES)] for place, name in enumerate(tuned)
  }
  starts: dict[str, str] = {}
  for name in tuned:
    starts.setdefault(described[name].get('untuned') or '', colors[name])
  starts.pop('', None)
  if len(starts) > 1:
    colors |= {name: f'{color} pale' for name, color in starts.items()}
  return [
      Shown(name, titles[name], colors.get(name, facts['kind']), facts['kind'])
      for name, facts in described.items()
  ]


def models(systems: Sequence[Shown]) -> list[Shown]:
  return [each for each in systems if each.kind == 'tuned']


def compared(
    systems: Sequence[Shown], described: Mapping[str, Mapping[str, Any]]
) -> list[Shown]:
  """Returns those whose bars stand beside each other, few enough to read.

  Each model is followed by its untuned one, if that is not of others too.
  """
  tuned = models(systems)
  if len(tuned) == 1:
    return [each for each in systems if each.kind != 'random']
  by_name = {each.system: each for each in systems}
  starts = [described[each.system].get('untuned') for each in tuned]
  found: list[Shown] = []
  for place, each in enumerate(tuned):
    found.append(each)
    start = starts[place]
    if start and start not in starts[place + 1 :]:
      found.append(by_name[start])
  return found
