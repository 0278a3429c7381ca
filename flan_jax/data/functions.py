"""Functions that a declaration names as 'module:function'."""

from collections.abc import Callable
import importlib
import os
import sys
import traceback

from flan_jax import errors


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
