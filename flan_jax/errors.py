"""The error that a user can mend."""


class UserError(Exception):
  """Something in the user's input is wrong, and one line says what.

  The message names the file (with its line where there is one), the field and
  the fix. The command line prints it without a traceback and exits with 2.
  """


def nearest(name: str, known: list[str], limit: int = 3) -> str:
  """Returns ' Did you mean a, b?' for the names most like `name`, or ''."""
  import difflib  # Only needed once something is wrong.

  found = difflib.get_close_matches(name, known, n=limit, cutoff=0.5)
  return f' Did you mean {", ".join(found)}?' if found else ''
