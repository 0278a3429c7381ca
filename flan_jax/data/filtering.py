"""What of a source's rows is stored: which of them, and what of each.

A row is turned down when the declaration's `keep` says so, or when its label is
a negative number, which is how releases hide the answers of a test set. Of a
dataset whose fields a function makes, the fields are stored in place of the
row: reading is fast then, and the function cannot fail any more.
"""

from collections.abc import Callable, Iterable, Mapping
import re
from typing import Any

from flan_jax import errors
from flan_jax.data import functions
from flan_jax.data import options as options_lib
from flan_jax.data import row_paths
from flan_jax.data import row_types
from flan_jax.data import specs
from flan_jax.data.sources import base

Row = dict[str, Any]
# Names the row that is looked at, such as 'train:17 (rows.jsonl:18)'.
Place = Callable[[], str]

FILTERED, HIDDEN, BROKEN = 'filtered', 'hidden', 'broken'
_NEGATIVE = re.compile(r'\s*-\d+(\.0*)?\s*')


class Filter:
  """Judges the rows of one dataset.

  Attributes:
    judges: Whether any row could be turned down at all.
  """

  def __init__(self, dataset: specs.Dataset):
    """Imports the functions that the declaration names.

    Raises:
      UserError: There is no such function.
    """
    self._dataset = dataset
    self._keep = self._load('keep', dataset.keep)
    spec = dataset.fields if isinstance(dataset.fields, str) else ''
    self._function = self._load('fields', spec)
    self.judges = bool(self._keep or dataset.choices)
    self._label = ''
    if dataset.choices:
      self._label = dataset.choices.label
      self._options = options_lib.Reader(dataset)
      self._named = (
          dict.fromkeys(dataset.choices.fields, False)
          | dict.fromkeys(filter(None, [dataset.choices.list]), False)
          | {self._label: True}
      )
    self._getters = {
        name: _Path(path) for name, path in dataset.row_paths.items()
    }
    # Labels that are right whatever else the row holds.
    self._right = _right_labels(dataset.choices)
    # What is known of the row looked at last. Several splits may want it, and
    # a function may change the row that it is given.
    self._row: Row | None = None
    self._reason = ''
    self._fields: Row | None = None
    self._failure: errors.UserError | None = None
    self._is_right = False

  def _load(self, key: str, spec: str) -> Callable | None:
    if not spec:
      return None
    return functions.load(spec, base.declared_in(self._dataset, key))

  def judge(self, row: Row, place: Place) -> str:
    """Returns why a row is turned down: `FILTERED`, `HIDDEN`, or ''.

    Raises:
      UserError: `keep` fails on the row.
    """
    if row is self._row:
      return self._reason
    self._start(row)
    if self._keep:
      try:
        kept = self._keep(row)
      except Exception as error:
        self._row = None
        spec = self._dataset.keep
        raise self._failed('keep', spec, place, error, row) from error
      if not kept:
        self._reason = FILTERED
    if self._label and not self._reason and self._is_hidden(row, place):
      self._reason = HIDDEN
    return self._reason

  def stored(self, row: Row, place: Place) -> Row:
    """Returns what is stored of a row.

    Raises:
      UserError: Its fields cannot be made, or its label is none of its options.
    """
    if row is not self._row:
      self._start(row)
    if self._failure:
      raise self._failure
    if self._function is not None and self._fields is None:
      self._fields = self._make(row, place)
    if self._label and not self._is_right:
      self._check_label(row, place)
      self._is_right = True
    return row if self._fields is None else self._fields

  def _start(self, row: Row) -> None:
    self._row = row
    self._reason = ''
    self._fields = None
    self._failure = None
    self._is_right = False

  def _get(self, name: str, row: Row) -> Any:
    """Returns a field that `choices` names.

    Raises:
      NoPath: The row does not have it.
    """
    if self._fields is not None:
      return self._fields[name]
    return self._getters[name](row)

  def _make(self, row: Row, place: Place) -> Row:
    """Calls the function of the fields; see `Rows.fields` for what is made."""
    assert self._function is not None
    spec = str(self._dataset.fields)
    names = list(row)  # The function may change the row that it is given.
    try:
      fields = self._function(row)
    except Exception as error:
      raise self._failed('fields', spec, place, error, names) from error
    made: Row = {}
    name = ''
    try:
      for name in self._dataset.field_names:
        value = fields[name]
        if type(value) is not str:
          value = row_types.plain(value)
          if name != self._label:
            value = row_paths.text(value)
        made[name] = value
    except (KeyError, TypeError, IndexError, ValueError) as error:
      what = f"field '{name}': {error}"
      if isinstance(error, (KeyError, TypeError, IndexError)):
        given = ', '.join(fields) if isinstance(fields, Mapping) else fields
        what = f"it gives no field '{name}', but {given!r}"
      raise self._error('fields', f'{spec}: row {place()}: {what}') from error
    return made

  def _failed(
      self,
      key: str,
      spec: str,
      place: Place,
      error: Exception,
      names: Iterable[str],
  ) -> errors.UserError:
    return self._error(
        key,
        f'{spec} fails on row {place()}: {functions.failure(error)}. The row'
        f' has {", ".join(names)}',
    )

  def _error(self, key: str, message: str) -> errors.UserError:
    return errors.UserError(
        f'{base.declared_in(self._dataset, key)}: {message}'
    )

  def _is_hidden(self, row: Row, place: Place) -> bool:
    if self._function is not None:
      try:
        self._fields = self._make(row, place)
      except errors.UserError as error:
        self._failure = error  # Raised when the row is to be stored.
        return False
    try:
      label = self._get(self._label, row)
      if label in self._right:
        self._is_right = True
        return False
    except (row_paths.NoPath, TypeError):
      return False  # Said when the row is to be stored.
    if isinstance(label, (int, float)):
      return label < 0
    if not isinstance(label, str) or not _NEGATIVE.fullmatch(label):
      return False
    # '-1' may be the answer's own text.
    choices = self._dataset.choices
    assert choices is not None
    options: list[Any] = [self._get(name, row) for name in choices.fields]
    if choices.list:
      options += self._get(choices.list, row) or []
    return label not in map(str, options)

  def _check_label(self, row: Row, place: Place) -> None:
    """Finds a label that is none of the options before training meets it."""
    fields = {}
    name = ''
    try:
      for name, raw in self._named.items():
        try:
          value = self._get(name, row)
        except row_paths.NoPath:
          if raw:
            raise
          value = ''  # As reading has it where a row lacks a field.
        fields[name] = value if raw else row_paths.text(value)
    except (row_paths.NoPath, ValueError) as error:
      key = 'choices.label' if name == self._label else 'choices'
      raise self._error(key, f'{error} (row {place()})') from error
    self._options.read([fields], lambda _: place())


def _right_labels(choices: specs.Choices | None) -> frozenset[object]:
  """Labels that need no look at the row's own options."""
  if choices is None:
    return frozenset()
  count = len(choices.names or choices.fields)
  return frozenset([*range(count), *choices.names])


class _Path:
  """Reads what a path leads to from rows as the source gives them.

  Calling it raises `row_paths.NoPath` where a row has no such path.
  """

  def __init__(self, path: str):
    self._path = path
    self._way: list[row_paths.Step] | None = None

  def __call__(self, row: Row) -> Any:
    if self._path in row:
      return row[self._path]
    if self._way:
      try:
        return row_paths.follow(row, self._way)
      except (KeyError, TypeError, IndexError):
        pass  # This row is another than the one before.
    try:
      kind = row_types.widen(row_types.EMPTY, row)
    except row_types.Mismatch as error:
      raise row_paths.NoPath(str(error)) from error
    self._way = row_paths.steps(self._path, kind)
    return row_paths.follow(row, self._way)
