"""YAML read strictly: every scalar a string, every error with file and line.

PyYAML's own loaders lose the line numbers and let a repeated key overwrite
the first one. So the node tree is read here, through `Node`, which knows where
it stands in the file.
"""

from collections.abc import Sequence
import json
import pathlib

from flan_jax import errors
import yaml

# libyaml is ten times faster; PyYAML without it behaves the same.
_LOADER = getattr(yaml, 'CBaseLoader', yaml.BaseLoader)


class Node:
  """A value in a YAML file, and where it stands.

  Attributes:
    key: The path of keys that leads here, such as 'templates[2].inputs'.
    line: The line in the file, from 1.
  """

  def __init__(self, path: pathlib.Path, node: yaml.Node, key: str, line: int):
    self._path = path
    self._node = node
    self.key = key
    self.line = line

  def error(self, message: str, position: int | None = None) -> Exception:
    """Returns the error to raise about this value.

    Args:
      message: What is wrong and how to mend it.
      position: The place in this value's text that is wrong, if it is one.
    """
    line = self.line
    node = self._node
    literal = isinstance(node, yaml.ScalarNode) and node.style == '|'
    if position is not None and literal:
      # A literal block starts on the line after its key.
      line = node.start_mark.line + 2 + node.value.count('\n', 0, position)
    key = f'{self.key}: ' if self.key else ''
    return errors.UserError(f'{self._path}:{line}: {key}{message}')

  def is_text(self) -> bool:
    return isinstance(self._node, yaml.ScalarNode)

  def is_list(self) -> bool:
    return isinstance(self._node, yaml.SequenceNode)

  def text(self) -> str:
    """Returns the scalar as it is written, quotes removed."""
    if not self.is_text():
      raise self.error('must be a text, not a list or a mapping')
    return self._node.value

  def integer(self, minimum: int) -> int:
    """Returns the scalar as an integer of at least `minimum`."""
    text = self.text()
    if not text.isascii() or not text.isdigit() or int(text) < minimum:
      raise self.error(f"must be a whole number from {minimum}, not '{text}'")
    return int(text)

  def positive(self) -> float:
    """Returns the scalar as a finite number above zero."""
    try:
      number = float(self.text())
    except ValueError:
      number = 0.0
    if not 0.0 < number < float('inf'):
      raise self.error(f"must be a number above 0, not '{self.text()}'")
    return number

  def flag(self) -> bool:
    """Returns the scalar `true` or `false` as a bool."""
    text = self.text()
    if text not in ('true', 'false'):
      raise self.error(f"must be true or false, not '{text}'")
    return text == 'true'

  def typed(self) -> object:
    """Returns the value with its types, as JSON has them.

    What stands without quotes and is a number, true, false or null, is that;
    all other scalars are texts.
    """
    node = self._node
    if isinstance(node, yaml.ScalarNode):
      if not node.style:  # libyaml says "" and PyYAML None for "no quotes".
        try:
          return json.loads(node.value)
        except ValueError:
          pass  # A text without quotes.
      return node.value
    if self.is_list():
      return [item.typed() for item in self.items()]
    return {key: entry.typed() for key, entry in self.entries().items()}

  def filled(self, mark: str, text: str) -> 'Node':
    """Returns the value with `text` in place of `mark` in all its scalars."""
    return Node(
        self._path, _filled(self._node, mark, text), self.key, self.line
    )

  def items(self) -> list['Node']:
    """Returns the values of a list."""
    if not self.is_list():
      raise self.error('must be a list')
    return [
        Node(self._path, node, f'{self.key}[{i}]', node.start_mark.line + 1)
        for i, node in enumerate(self._node.value)
    ]

  def texts(self) -> tuple[str, ...]:
    """Returns the texts of a list of texts."""
    return tuple(item.text() for item in self.items())

  def entries(self) -> dict[str, 'Node']:
    """Returns the values of a mapping by key; a key twice is an error."""
    if not isinstance(self._node, yaml.MappingNode):
      raise self.error('must be a mapping (key: value)')
    entries: dict[str, Node] = {}
    for key_node, node in self._node.value:
      line = key_node.start_mark.line + 1
      if not isinstance(key_node, yaml.ScalarNode):
        raise Node(self._path, key_node, self.key, line).error(
            'has a key that is not a text'
        )
      key = key_node.value
      place = f'{self.key}.{key}' if self.key else key
      entry = Node(self._path, node, place, line)
      if key in entries:
        raise entry.error(f'is here twice (first on line {entries[key].line})')
      entries[key] = entry
    return entries

  def section(
      self, required: Sequence[str], optional: Sequence[str] = ()
  ) -> dict[str, 'Node']:
    """Returns the entries of a mapping whose keys are known beforehand.

    Raises:
      UserError: A key is unknown, or a required one is missing.
    """
    entries = self.entries()
    known = [*required, *optional]
    for key, entry in entries.items():
      if key not in known:
        raise entry.error(
            f'unknown key.{errors.nearest(key, known)}'
            f' Known here: {", ".join(known)}'
        )
    for key in required:
      if key not in entries:
        raise self.error(f"the key '{key}' is missing")
    return entries


def _filled(node: yaml.Node, mark: str, text: str) -> yaml.Node:
  place = node.start_mark, node.end_mark
  if isinstance(node, yaml.ScalarNode):
    value = node.value.replace(mark, text)
    return yaml.ScalarNode(node.tag, value, *place, style=node.style)
  if isinstance(node, yaml.SequenceNode):
    items = [_filled(item, mark, text) for item in node.value]
    return yaml.SequenceNode(node.tag, items, *place)
  entries = [(key, _filled(value, mark, text)) for key, value in node.value]
  return yaml.MappingNode(node.tag, entries, *place)


def read(path: pathlib.Path) -> Node:
  """Reads a YAML file of one document.

  Raises:
    UserError: The file cannot be read, is empty, or is not YAML.
  """
  try:
    text = path.read_text(encoding='utf-8')
  except OSError as error:
    raise errors.UserError(f'{path}: {error.strerror}') from error
  except UnicodeDecodeError as error:
    raise errors.UserError(
        f'{path}: byte {error.start} is not UTF-8; save the file as UTF-8'
    ) from error
  try:
    node = yaml.compose(text, Loader=_LOADER)
  except yaml.MarkedYAMLError as error:
    mark = error.problem_mark or error.context_mark
    line = f':{mark.line + 1}' if mark else ''
    raise errors.UserError(
        f'{path}{line}: not valid YAML: {error.problem or error.context}'
    ) from error
  except yaml.YAMLError as error:
    message = ' '.join(str(error).split())
    raise errors.UserError(f'{path}: not valid YAML: {message}') from error
  if node is None:
    raise errors.UserError(f'{path}: is empty; mixtures/BLANK.yaml shows how')
  return Node(path, node, '', node.start_mark.line + 1)
