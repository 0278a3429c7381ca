"""gin at the edges: files, flags, and every check that needs no jax.

An entry point registers its light dataclasses, and one call builds its
settings from gin files and flags:

    configuration.register(Adafactor)
    loaded = configuration.load(files, bindings, search_paths, entry=Train)
    loaded.settings  # A Train.

The files are read twice. The first reading, ours, knows every statement's
place, so that whatever is wrong (syntax, a missing include, a macro still
REQUIRED, a misspelt name) is one line that names file and line, and is found
before anything slow is imported. The second gives the statements to gin.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import importlib
import importlib.util  # gin-config uses it without importing it.
import inspect
import re
from typing import Any, Generic, NamedTuple, TypeVar

from flan_jax import errors
from flan_jax import gin_files
import gin.config

T = TypeVar('T')


class _Registered(NamedTuple):
  plain: Callable[..., Any]
  configurable: Callable[..., Any]


_REGISTRY: dict[str, _Registered] = {}


@dataclasses.dataclass(frozen=True)
class Configuration(Generic[T]):
  """What `load` read.

  Attributes:
    settings: What the entry point made of it.
    text: The operative configuration as gin text: every macro and every
      parameter that was used, defaults included. Loading it as a gin file
      gives the same settings.
  """

  settings: T
  text: str


def register(obj: Callable[..., Any], name: str | None = None) -> None:
  """Makes a class or function configurable from gin files under `name`.

  Args:
    obj: A class or function of keyword arguments, importable without jax.
    name: The name in gin files; by default the object's own.

  Raises:
    ValueError: Another object has that name.
  """
  name = name or obj.__name__
  known = _REGISTRY.get(name)
  if known is None:
    wrapped = gin.config.external_configurable(obj, name)
    _REGISTRY[name] = _Registered(obj, wrapped)
  elif known.plain is not obj:
    raise ValueError(f'{name} is registered already, for {known.plain!r}.')


def load(
    files: Sequence[str],
    bindings: Sequence[str],
    search_paths: Sequence[str] = (),
    *,
    entry: Callable[..., T],
) -> Configuration[T]:
  """Reads gin files and flags, checks them, and calls `entry` through gin.

  gin's state is set afresh, so that one process can load several times.

  Args:
    files: gin files; each is looked for from here, from `search_paths`, and
      from the folder that holds the packaged `gin/`.
    bindings: `NAME=VALUE` from flags, in order. A value that gin cannot read
      and that opens no bracket or quote is taken as a string.
    search_paths: Further folders.
    entry: The registered (or to be registered) settings class.

  Raises:
    UserError: Anything wrong in the files or flags, or with a setting.
  """
  register(entry)
  script = gin_files.read(files, bindings, search_paths)
  for module, where in script.imports:
    _import(module, where)
  _check_names(script)
  _check_macros(script)
  gin.config.clear_config()
  for binding in script.bindings.values():
    gin.config.bind_parameter(_gin_key(binding.key), _gin_value(binding.value))
  settings = _build(entry, script)
  header = ''.join(f'import {module}\n' for module, _ in script.imports)
  return Configuration(settings, header + gin.config.operative_config_str())


def by_name(settings: Any) -> dict[str, Any]:
  """Returns a settings object's fields under their macros' names.

  Parts are named 'MESH.data' and so on; values are fit for JSON.
  """
  found: dict[str, Any] = {}
  for field in dataclasses.fields(settings):
    name, value = field.name.upper(), getattr(settings, field.name)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
      found[name] = type(value).__name__
      for part, inner in dataclasses.asdict(value).items():
        found[f'{name}.{part}'] = inner
    elif isinstance(value, (str, int, float, type(None), Mapping)):
      found[name] = value
    else:
      found[name] = type(value).__name__  # A user's own optimizer or schedule.
  return found


def whole_number(name: str, value: Any, minimum: int = 0) -> None:
  """Checks that a setting is an int of at least `minimum`, else UserError."""
  if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
    raise errors.UserError(
        f'{name}: must be a whole number of at least {minimum}, not {value!r}'
    )


def number(name: str, value: Any, minimum: float = 0.0) -> None:
  """Checks that a setting is a number of at least `minimum`, else UserError."""
  good = isinstance(value, (int, float)) and not isinstance(value, bool)
  if not good or not value >= minimum:
    raise errors.UserError(
        f'{name}: must be a number of at least {minimum:g}, not {value!r}'
    )


def text(name: str, value: Any, may_be_empty: bool = False) -> None:
  """Checks that a setting is a string, else UserError."""
  if not isinstance(value, str):
    raise errors.UserError(
        f'{name}: must be a string, not {value!r}; put it in quotes'
    )
  if not value and not may_be_empty:
    raise errors.UserError(f'{name}: must not be empty')


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
  """Checks that a setting is one of a few words, else UserError."""
  if value not in allowed:
    words = ' or '.join(f'"{word}"' for word in allowed)
    raise errors.UserError(f'{name}: must be {words}, not {value!r}')


def feature_lengths(value: Any) -> None:
  """Checks TASK_FEATURE_LENGTHS, else UserError.

  Args:
    value: Should map 'inputs' and 'targets' to tokens, 2 or more: the last one
      is the end of the text.
  """
  if not isinstance(value, Mapping) or set(value) != {'inputs', 'targets'}:
    raise errors.UserError(
        "TASK_FEATURE_LENGTHS: must be like {'inputs': 512, 'targets': 128},"
        f' not {value!r}'
    )
  for name, length in value.items():
    whole_number(f'TASK_FEATURE_LENGTHS[{name!r}]', length, 2)


def instance(name: str, value: Any, kind: type | tuple[type, ...]) -> None:
  """Checks that a setting is a `kind` (or one of them), else UserError."""
  if isinstance(value, kind):
    return
  kinds = kind if isinstance(kind, tuple) else (kind,)
  wanted = ' or '.join(f'@{k.__name__}()' for k in kinds)
  shown = f'@{value.__name__}' if inspect.isclass(value) else repr(value)
  raise errors.UserError(f'{name}: must be {wanted}, not {shown}')


def _import(module: str, where: str) -> None:
  """Runs a file's `import`, for what it registers with gin."""
  try:
    importlib.import_module(module)
  except ImportError as error:
    raise errors.UserError(f'{where}: import {module}: {error}') from error


def _plain(selector: str) -> Callable[..., Any] | None:
  """Returns the object that a gin file calls `selector`, None if unknown."""
  if selector in _REGISTRY:
    return _REGISTRY[selector].plain
  try:
    return gin.config.get_configurable(selector)
  except (ValueError, KeyError):
    return None


def _check_names(script: gin_files.Script) -> None:
  """Checks that configurables exist and have the parameters that are set."""
  for binding in script.bindings.values():
    if binding.key.parameter:
      _check_parameter(binding.key.name, binding.key.parameter, binding.where)
    for reference in gin_files.walk(binding.value):
      if isinstance(reference, gin_files.Reference):
        _check_configurable(reference.selector, binding.where)
  for selector, where in script.blocks:
    _check_configurable(selector, where)


def _check_configurable(selector: str, where: str) -> Callable[..., Any]:
  obj = _plain(selector)
  if obj is None:
    raise errors.UserError(
        f'{where}: nothing configurable is called {selector!r}.'
        + errors.nearest(selector, sorted(_REGISTRY))
    )
  return obj


def _check_parameter(selector: str, parameter: str, where: str) -> None:
  obj = _check_configurable(selector, where)
  known = inspect.signature(obj).parameters
  if any(p.kind is p.VAR_KEYWORD for p in known.values()):
    return
  if parameter not in known:
    raise errors.UserError(
        f'{where}: {selector} has no parameter {parameter!r}.'
        + (errors.nearest(parameter, list(known)) or f' It has {_list(known)}.')
    )


def _list(names: Any) -> str:
  return ', '.join(names)


def _check_macros(script: gin_files.Script) -> None:
  """Checks that every macro used has a value, and every one set a use."""
  used: dict[str, str] = {}
  for binding in script.bindings.values():
    for reference in gin_files.walk(binding.value):
      if isinstance(reference, gin_files.Macro) and not reference.required:
        used.setdefault(reference.name, binding.where)
  macros = {b.key.name: b for b in script.bindings.values() if b.key.macro}
  packaged = {b.key.name for b in script.packaged if b.key.macro}
  for name, binding in macros.items():
    if name not in used and name not in packaged:
      known = sorted({*used, *packaged})
      raise errors.UserError(
          f'{binding.where}: {name} is set, but nothing uses it.'
          + (errors.nearest(name, known) or f' There are {_list(known)}.')
      )
  for name, where in used.items():
    if name not in macros:
      raise errors.UserError(
          f'{where}: %{name} is used, but no file or flag sets {name}.'
          + errors.nearest(name, sorted(macros))
      )
  _check_cycles(macros)
  missing = [
      binding
      for binding in script.bindings.values()
      if any(
          isinstance(r, gin_files.Macro) and r.required
          for r in gin_files.walk(binding.value)
      )
  ]
  if missing:
    first, *others = missing
    also = ''.join(f', so is {_shown(b)} ({b.where})' for b in others)
    raise errors.UserError(
        f'{first.where}: {_shown(first)} is required{also}:'
        f' pass --gin.{_shown(first)}=VALUE or set it in your gin file'
    )


def _check_cycles(macros: dict[str, gin_files.Binding]) -> None:
  """Checks that no macro is defined by itself (gin would never return)."""
  done: set[str] = set()

  def visit(name: str, path: tuple[str, ...]) -> None:
    if name in path:
      cycle = ' = '.join(f'%{n}' for n in (*path[path.index(name) :], name))
      raise errors.UserError(f'{macros[name].where}: a circle: {cycle}')
    if name in done or name not in macros:
      return
    for reference in gin_files.walk(macros[name].value):
      if isinstance(reference, gin_files.Macro):
        visit(reference.name, (*path, name))
    done.add(name)

  for name in macros:
    visit(name, ())


def _shown(binding: gin_files.Binding) -> str:
  return gin_files.show(binding.key)


def _gin_key(key: gin_files.Key) -> tuple[str, str, str]:
  if key.macro:
    scoped = f'{key.scope}/{key.name}' if key.scope else key.name
    return scoped, 'gin.macro', 'value'
  return key.scope, key.name, key.parameter


def _gin_value(value: Any) -> Any:
  """Replaces our references by gin's, in whatever holds them."""
  delegate = gin.config.ParserDelegate()
  if isinstance(value, gin_files.Macro):
    return delegate.macro(value.name)
  if isinstance(value, gin_files.Reference):
    return delegate.configurable_reference(value.name, value.evaluate)
  if isinstance(value, dict):
    return {_gin_value(k): _gin_value(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return type(value)(_gin_value(v) for v in value)
  return value


def _build(entry: Callable[..., T], script: gin_files.Script) -> T:
  """Calls `entry` through gin, and makes one line of what goes wrong."""
  try:
    return _REGISTRY[entry.__name__].configurable()
  except errors.UserError as error:
    message = _first_part(error)
  except (TypeError, ValueError) as error:
    # A constructor of the user's that refuses its arguments, or a parameter
    # without a default that no file binds.
    message = f'{entry.__name__}: {_first_part(error)}'
  raise errors.UserError(_located(message, script))


def _first_part(error: Exception) -> str:
  # gin adds lines on which configurables it was calling.
  return str(error).split('\n')[0]


def _located(message: str, script: gin_files.Script) -> str:
  """Puts the place where `NAME: ...` was set before the message."""
  found = re.match(r'([A-Za-z_][\w./]*): ', message)
  for binding in script.bindings.values():
    if found and _shown(binding) == found.group(1):
      if binding.where == f'--gin.{found.group(1)}':
        return f'--gin.{message}'
      return f'{binding.where}: {message}'
  return message
