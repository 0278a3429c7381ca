"""Reads gin files and flags into statements that know where they stand.

Only gin's parser is used here and none of its state: `configuration` checks
the statements and hands them on.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import pathlib
import tokenize
from typing import Any, NamedTuple

from flan_jax import errors
from flan_jax import paths
import gin.config_parser


class Key(NamedTuple):
  """What a statement sets: a macro, or a configurable's parameter."""

  scope: str
  name: str
  parameter: str  # '' for a macro.

  @property
  def macro(self) -> bool:
    return not self.parameter


class Macro(NamedTuple):
  """`%NAME` in a value."""

  name: str

  @property
  def required(self) -> bool:
    return self.name in ('gin.REQUIRED', 'REQUIRED')

  def __repr__(self) -> str:
    return f'%{self.name}'


class Reference(NamedTuple):
  """`@Name` or `@Name()` in a value; the name may have a scope before it."""

  name: str
  evaluate: bool

  @property
  def selector(self) -> str:
    return self.name.rsplit('/', 1)[-1]

  def __repr__(self) -> str:
    return f'@{self.name}()' if self.evaluate else f'@{self.name}'


class Binding(NamedTuple):
  """One statement: the key, its value, and where that stands."""

  key: Key
  value: Any
  where: str


@dataclasses.dataclass
class Script:
  """All statements of a run, in order.

  Attributes:
    bindings: The last value of each key.
    packaged: All bindings of the files that come with flan_jax.
    imports: Modules to import, each with its place.
    blocks: Names that open a block (`Name:`), each with its place.
  """

  bindings: dict[Key, Binding] = dataclasses.field(default_factory=dict)
  packaged: list[Binding] = dataclasses.field(default_factory=list)
  imports: list[tuple[str, str]] = dataclasses.field(default_factory=list)
  blocks: list[tuple[str, str]] = dataclasses.field(default_factory=list)

  def bind(self, binding: Binding) -> None:
    """Sets a value; a mere REQUIRED never takes one away.

    So a model may be included before or after the run file that requires one.
    """
    value = binding.value
    required = isinstance(value, Macro) and value.required
    if not (required and binding.key in self.bindings):
      self.bindings[binding.key] = binding


class _Delegate(gin.config_parser.ParserDelegate):
  """Makes our references, where gin's parser would make gin's."""

  def configurable_reference(
      self, scoped_configurable_name: str, evaluate: bool
  ) -> Reference:
    return Reference(scoped_configurable_name, evaluate)

  def macro(self, macro_name: str) -> Macro:
    return Macro(macro_name)


class _Text:
  """Lines with a name, as gin's parser reads them."""

  def __init__(self, text: str, name: str):
    self.name = name
    self._lines = iter(text.splitlines(keepends=True))

  def readline(self) -> str:
    return next(self._lines, '')


def show(key: Key) -> str:
  """Returns a key as gin files write it."""
  name = f'{key.name}.{key.parameter}' if key.parameter else key.name
  return f'{key.scope}/{name}' if key.scope else name


def walk(value: Any) -> Iterator[Any]:
  """Yields the macros, references and plain values in a value."""
  if isinstance(value, dict):
    for item in (*value.keys(), *value.values()):
      yield from walk(item)
  elif isinstance(value, (list, tuple)) and not isinstance(
      value, (Macro, Reference)
  ):
    for item in value:
      yield from walk(item)
  else:
    yield value


def read(
    files: Sequence[str], flags: Sequence[str], search_paths: Sequence[str]
) -> Script:
  """Reads files with all they include, then flags (`NAME=VALUE`).

  Raises:
    UserError: A file is missing or does not parse, or a flag names a macro
      that no file knows.
  """
  script = Script()
  for name in files:
    _read_file(name, None, search_paths, script, ())
  known = sorted(_macros(script))
  for flag in flags:
    binding = _read_flag(flag)
    if binding.key.macro and show(binding.key) not in known:
      raise errors.UserError(
          f'{binding.where}: no gin file has a macro {show(binding.key)}.'
          + (
              errors.nearest(show(binding.key), known)
              or f' There are {", ".join(known) or "none"}.'
          )
      )
    script.bind(binding)
  return script


def plain(path: pathlib.Path) -> dict[str, Any]:
  """Returns what a file binds, by name, macros followed; takes no includes.

  It is for files of other programs, such as T5X's `config.gin`: nothing in them
  is imported or registered. References to configurables stay `Reference`s.

  Raises:
    UserError: It does not parse.
  """
  found = {}
  for statement in _statements(path.read_text(encoding='utf-8'), str(path)):
    if isinstance(statement, gin.config_parser.BindingStatement):
      found[show(_key(statement))] = statement.value

  def follow(value: Any, seen: tuple[str, ...] = ()) -> Any:
    if not isinstance(value, Macro) or value.name in seen:
      return value
    return follow(found.get(value.name, value), (*seen, value.name))

  return {name: follow(value) for name, value in found.items()}


def _macros(script: Script) -> set[str]:
  """Returns the names of the macros that are set or used."""
  names = {show(key) for key in script.bindings if key.macro}
  for binding in script.bindings.values():
    for reference in walk(binding.value):
      if isinstance(reference, Macro) and not reference.required:
        names.add(reference.name)
  return names


def _read_file(
    name: str,
    includer: tuple[pathlib.Path, str] | None,
    search_paths: Sequence[str],
    script: Script,
    open_files: tuple[pathlib.Path, ...],
) -> None:
  """Reads one file into `script`.

  Args:
    name: As the flag or the include gives it.
    includer: The including file's folder and the include's place.
    search_paths: Further folders.
    script: Where statements go.
    open_files: The files that are being read, outermost first.

  Raises:
    UserError: The file is missing, includes itself, or does not parse.
  """
  where = f'{includer[1]}: ' if includer else ''
  path = _find(name, includer[0] if includer else None, search_paths)
  if path is None:
    raise errors.UserError(
        f'{where}there is no gin file {name!r} here, in the search paths or'
        f' in {paths.root()}.{_nearest_file(name)}'
    )
  if path in open_files:
    raise errors.UserError(f'{where}{name} includes itself')
  try:
    text = path.read_text(encoding='utf-8')
  except (OSError, UnicodeDecodeError) as error:
    raise errors.UserError(f'{where}{name}: cannot be read: {error}') from error
  packaged = path.is_relative_to(paths.gin_dir().resolve())
  for statement in _statements(text, name):
    if isinstance(statement, gin.config_parser.IncludeStatement):
      place = f'{name}:{statement.location.line_num}'
      _read_file(
          statement.filename,
          (path.parent, place),
          search_paths,
          script,
          (*open_files, path),
      )
      continue
    binding = _take(statement, name, script)
    if binding and packaged:
      script.packaged.append(binding)


def _find(
    name: str, folder: pathlib.Path | None, search_paths: Sequence[str]
) -> pathlib.Path | None:
  given = pathlib.Path(name).expanduser()
  folders = [pathlib.Path(), *map(pathlib.Path, search_paths), paths.root()]
  if folder is not None:
    folders.append(folder)
  for start in folders:
    candidate = start.expanduser() / given
    if candidate.is_file():
      return candidate.resolve()
  return None


def _nearest_file(name: str) -> str:
  root = paths.root()
  known = [
      path.relative_to(root).as_posix()
      for path in sorted(paths.gin_dir().rglob('*.gin'))
  ]
  return errors.nearest(name, known)


def _statements(text: str, name: str) -> Iterator[Any]:
  """Yields gin's statements, with its several errors as one."""
  try:
    parser = gin.config_parser.ConfigParser(_Text(text, name), _Delegate())
    while (statement := parser.parse_statement()) is not None:
      yield statement
  except SyntaxError as error:
    raise errors.UserError(_syntax(error, name)) from error
  except tokenize.TokenError as error:
    message, (line, _) = error.args
    if 'EOF' in message:
      # Where the file ends; from Python 3.12 on the tokenizer names the line
      # before.
      line = _last_line(text)
    raise errors.UserError(f'{name}:{line}: {message}') from error
  except StopIteration as error:
    # gin's parser runs past the end of a statement that is cut short.
    raise errors.UserError(
        f'{name}:{_last_line(text)}: the file ends too soon'
    ) from error


def _last_line(text: str) -> int:
  return text.count('\n') + 1


def _syntax(error: SyntaxError, name: str) -> str:
  """Makes 'file:line: message' of what gin or Python's tokenizer raises."""
  message = ' '.join(str(error.msg).split())
  where = error.args[1] if len(error.args) > 1 else None
  if isinstance(where, gin.config_parser.Location):
    line, content = where.line_num, where.line_content
  else:
    line, content = error.lineno, error.text
  shown = f': {content.strip()}' if content and content.strip() else ''
  return f'{name}:{line}: {message}{shown}'


def _take(statement: Any, name: str, script: Script) -> Binding | None:
  """Adds one statement to `script`; returns it if it sets something."""
  where = f'{name}:{statement.location.line_num}'
  if isinstance(statement, gin.config_parser.BindingStatement):
    binding = Binding(_key(statement), statement.value, where)
    script.bind(binding)
    return binding
  if isinstance(statement, gin.config_parser.BlockDeclaration):
    script.blocks.append((statement.selector, where))
  elif isinstance(statement, gin.config_parser.ImportStatement):
    if statement.module.startswith('__gin__'):
      raise errors.UserError(
          f'{where}: dynamic registration is not supported: import a module'
          ' that marks its functions with gin.configurable'
      )
    script.imports.append((statement.module, where))
  return None


def _key(statement: gin.config_parser.BindingStatement) -> Key:
  """Returns the key; a name without a dot is a macro, as in gin."""
  if statement.arg_name:
    return Key(statement.scope, statement.selector, statement.arg_name)
  return Key(statement.scope, statement.selector, '')


def _read_flag(flag: str) -> Binding:
  """Reads `NAME=VALUE`; a bare string needs no quotes.

  Raises:
    UserError: No `=`, a malformed name, or a value that opens a bracket, a
      quote or a reference and does not parse.
  """
  name, equals, value = flag.partition('=')
  name, value = name.strip(), value.strip()
  where = f'--gin.{name}'
  if not equals:
    raise errors.UserError(f'--gin.{flag}: has no value; write NAME=VALUE')
  try:
    statement = next(_statements(f'{name} = 0\n', where))
  except (errors.UserError, StopIteration) as error:
    raise errors.UserError(f'{where}: {name!r} is no name') from error
  if not isinstance(statement, gin.config_parser.BindingStatement):
    raise errors.UserError(f'{where}: {name!r} is no name')
  try:
    (parsed,) = _statements(f'X = {value}\n', where)
    result = parsed.value
  except (errors.UserError, ValueError) as error:
    if value[:1] in ('"', "'", '[', '(', '{', '@', '%'):
      raise errors.UserError(
          f'{where}: {value} does not parse as a gin value'
      ) from error
    result = value
  return Binding(_key(statement), result, where)
