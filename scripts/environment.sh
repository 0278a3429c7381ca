# shellcheck shell=bash
# Sourced by the other scripts: makes a virtual environment once, and says how.
# Settings: PYTHON (default python3), VENV (default .venv), INSTALL (0: use the
# environment as it is).

PYTHON="${PYTHON:-python3}"
VENV="${VENV:-.venv}"

# make_environment EXTRAS: an environment with this checkout and EXTRAS in it.
make_environment() {
  case "$VENV" in
    /*) export PATH="$VENV/bin:$PATH" ;;
    *) export PATH="$PWD/$VENV/bin:$PATH" ;;
  esac
  if [ "${INSTALL:-1}" = 0 ]; then
    return
  fi
  if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "$PYTHON is $("$PYTHON" --version 2>&1), and 3.11 is the oldest that" \
      "will do; set PYTHON to a newer one." >&2
    exit 2
  fi
  if [ ! -x "$VENV/bin/python" ]; then
    echo "== making a virtual environment in $VENV"
    "$PYTHON" -m venv "$VENV"
  fi
  # Installed again only when what decides it has changed.
  local stamp="$VENV/.installed-${1//[^a-z0-9]/_}"
  if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ] ||
    [ setup.py -nt "$stamp" ]; then
    echo "== installing flan_jax$1 and what it needs"
    "$VENV/bin/python" -m pip install --quiet --upgrade pip
    # The build warns of what is meant: an editable install.
    PYTHONWARNINGS=ignore \
      "$VENV/bin/python" -m pip install --quiet --editable ".$1"
    touch "$stamp"
  fi
}
