"""Answer options: what they are for a row, which is right, how they look."""

from collections.abc import Callable, Mapping, Sequence

from flan_jax import errors
from flan_jax.data import seeding
from flan_jax.data import specs
import numpy as np

# One row's options in the order shown, and the right one's place among them.
Answered = tuple[tuple[str, ...], int]


def text(options: Sequence[str]) -> str:
  """Writes options as FLAN lays them out: a line each, under one word."""
  return 'OPTIONS:' + ''.join(f'\n- {option}' for option in options)


class Reader:
  """Reads a dataset's options, and the right one, from rows of fields."""

  def __init__(self, dataset: specs.Dataset):
    if dataset.choices is None:
      raise ValueError(f"'{dataset.name}' has no choices.")
    self._dataset = dataset
    self._choices = dataset.choices
    self._names = dataset.choices.names
    # Labels come as numbers or as texts; an answer's own text goes before the
    # number that it may look like.
    self._places: dict[object, int] = {
        label: place
        for place in range(len(self._names))
        for label in (place, str(place))
    }
    self._places |= {name: place for place, name in enumerate(self._names)}

  def read(
      self,
      rows: Sequence[Mapping[str, object]],
      row_id: Callable[[int], str],
  ) -> list[Answered]:
    """Returns each row's options in class order, and the right one's place.

    Args:
      rows: Rows of fields.
      row_id: Names a row, by its place in `rows`, when its label is no good.

    Raises:
      UserError: A label is none of the options.
    """
    label = self._choices.label
    if self._names:
      names, places = self._names, self._places
      try:
        return [(names, places[row[label]]) for row in rows]
      except (KeyError, TypeError):
        pass  # Found again below, where the row is known.
    return [
        self._read_row(row, row_id, place) for place, row in enumerate(rows)
    ]

  def _read_row(
      self,
      row: Mapping[str, object],
      row_id: Callable[[int], str],
      place: int,
  ) -> Answered:
    choices = self._choices
    if choices.names:
      options = choices.names
    elif choices.fields:
      options = tuple(str(row[name]) for name in choices.fields)
    else:
      listed = row[choices.list]
      if isinstance(listed, str) or not isinstance(listed, Sequence):
        raise self._error(row_id(place), f'{choices.list} is not a list')
      options = tuple(str(option) for option in listed)
    label = row[choices.label]
    right = _place(label, options)
    if right is None:
      raise self._error(
          row_id(place),
          f'{choices.label} is {label!r}, which is none of its'
          f' {len(options)} options (the first is 0)',
      )
    return options, right

  def _error(self, row: str, message: str) -> errors.UserError:
    where = self._dataset.path if self._dataset.path.name else 'dataset'
    return errors.UserError(
        f"{where}: choices: row {row} of '{self._dataset.name}': {message}"
    )


def _place(label: object, options: tuple[str, ...]) -> int | None:
  if isinstance(label, str) and label in options:
    return options.index(label)
  if isinstance(label, str) and label.isascii() and label.isdigit():
    place = int(label)
  elif isinstance(label, int | np.integer | np.bool_):
    place = int(label)
  else:
    return None
  return place if 0 <= place < len(options) else None


def shuffled(
    answered: Sequence[Answered], hashes: np.ndarray
) -> list[Answered]:
  """Puts each row's options in a random order.

  Args:
    answered: Options in class order.
    hashes: uint64, one a row; the order depends on nothing else.
  """
  most = max((len(options) for options, _ in answered), default=0)
  found = []
  rows = seeding.orders(hashes, most).tolist()
  for (options, right), row in zip(answered, rows, strict=True):
    order = [place for place in row if place < len(options)]
    found.append((tuple(options[place] for place in order), order.index(right)))
  return found
