"""Closed-book question answering."""

from collections.abc import Mapping
from typing import Any

from flan_jax.data.fields import common


def natural_questions(row: Mapping[str, Any]) -> dict[str, Any]:
  """NQ-open (Lee et al., 2019): `question`, `answer`, `answers`.

  Queries come without a question mark; the field ends in exactly one, so
  templates add none (FLAN's own prompts often end in two).
  """
  return common.question_answers(row)
