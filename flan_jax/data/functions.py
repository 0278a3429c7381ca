"""Functions that a declaration names as 'module:function'."""

from collections.abc import Callable
import hashlib
import importlib
import marshal
import os
import pathlib
import sys
import traceback
import types
from typing import Any

from flan_jax import errors

_DIGESTS: dict[str, tuple[Any, str]] = {}


def load(spec: str, where: str) -> Callable:
  """Imports the function that `spec` names.

  The working directory counts as a place of modules, as it does under
  `python -m`, so that a user's own file is found by the console script too.

  Args:
    spec: 'module:function'.
    where: The file and key that name it, for the error.

  Raises:
    UserError: There is no such module or function, or importing it fails.
  """
  module_name, _, name = spec.partition(':')
  if not module_name or not name:
    raise errors.UserError(f"{where}: '{spec}' is not 'module:function'")
  try:
    module = _import(module_name)
  except ModuleNotFoundError as error:
    if error.name and not f'{module_name}.'.startswith(f'{error.name}.'):
      raise _failed(where, module_name, error) from error
    raise errors.UserError(
        f"{where}: there is no Python module '{module_name}'; run from the"
        ' folder that holds it, or name that folder in PYTHONPATH'
    ) from error
  except Exception as error:
    raise _failed(where, module_name, error) from error
  function = getattr(module, name, None)
  if not callable(function):
    known = [
        key
        for key, value in vars(module).items()
        if callable(value) and not key.startswith('_')
    ]
    raise errors.UserError(
        f"{where}: '{module_name}' has no function '{name}'."
        f'{errors.nearest(name, known)}'
    )
  return function


def _import(name: str):
  here = os.getcwd()
  if here in sys.path or '' in sys.path:
    return importlib.import_module(name)
  sys.path.insert(0, here)
  try:
    return importlib.import_module(name)
  finally:
    sys.path.remove(here)


def digest(spec: str, where: str) -> str:
  """Returns a text that changes when what a function does may have.

  It depends on the function's module, on the modules beside it that it
  imports, and on a constant VERSION in it.

  Args:
    spec: 'module:function'.
    where: The file and key that name it, for the error.

  Raises:
    UserError: As `load`.
  """
  function = load(spec, where)
  module = sys.modules[spec.partition(':')[0]]
  # What it was when it was imported: a module is not imported again when its
  # file changes, so within one process neither does what it does.
  imported = module.__spec__ or function
  name = module.__name__ if module.__spec__ else spec
  known = _DIGESTS.get(name)
  if known is None or known[0] is not imported:
    known = _DIGESTS[name] = imported, _digest(module, function)
  return known[1]


def _digest(module: types.ModuleType, function: Callable) -> str:
  found = hashlib.sha256(str(getattr(module, 'VERSION', '')).encode())
  paths = sorted(_sources(module))
  for path in paths:
    found.update(path.read_bytes())
  if not paths:  # Declared in a notebook.
    found.update(marshal.dumps(function.__code__))
  return found.hexdigest()


def _sources(module: types.ModuleType) -> set[pathlib.Path]:
  """The files of a module and of the modules beside it that it imports."""
  found: set[pathlib.Path] = set()
  waiting = [module]
  while waiting:
    module = waiting.pop()
    path = _file(module)
    if path is None or path in found:
      continue
    found.add(path)
    for value in list(vars(module).values()):
      other = value
      if not isinstance(value, types.ModuleType):
        name = getattr(value, '__module__', None)
        other = sys.modules.get(name) if isinstance(name, str) else None
      if other is None:
        continue
      beside = _file(other)
      if beside is not None and beside.parent == path.parent:
        waiting.append(other)
  return found


def _file(module: types.ModuleType) -> pathlib.Path | None:
  name = getattr(module, '__file__', None)
  return pathlib.Path(name) if name and name.endswith('.py') else None


def failure(error: Exception) -> str:
  """Returns what went wrong in a user's code, and on which line, in one."""
  frames = traceback.extract_tb(error.__traceback__)
  place = f' ({frames[-1].filename}:{frames[-1].lineno})' if frames else ''
  if isinstance(error, SyntaxError):
    place = ''  # Its message says it.
  message = ' '.join(str(error).split())
  return f'{type(error).__name__}: {message}{place}'


def _failed(where: str, module: str, error: Exception) -> errors.UserError:
  return errors.UserError(
      f"{where}: importing '{module}' fails: {failure(error)}"
  )
