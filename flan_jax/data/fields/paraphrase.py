"""Paraphrase: two texts that may say the same."""

from collections.abc import Mapping
from typing import Any


def qqp(row: Mapping[str, Any]) -> dict[str, Any]:
  """QQP: `question1`, `question2` and `label`.

  GLUE's file carries the quoting of the CSV file that it was made from:
  quotes around a whole question go, and doubled ones become apostrophes.
  """
  return {
      'question1': _without_csv_quotes(row['question1']),
      'question2': _without_csv_quotes(row['question2']),
      'label': row['label'],
  }


def stsb(row: Mapping[str, Any]) -> dict[str, Any]:
  """STS-B (Cer et al., 2017): two sentences and how alike they are.

  Returns:
    `sentence1`, `sentence2`; `label`, the mean of the annotators' scores from
    0 to 5, rounded to a whole number (a half to the even one, as FLAN does);
    `scores`, that number and, where it differs, the mean itself, with which
    GLUE correlates.
  """
  label = round(row['label'])
  return {
      'sentence1': row['sentence1'],
      'sentence2': row['sentence2'],
      'label': label,
      # To six digits: the rows hold 3.2 as the 32-bit 3.2000000477.
      'scores': list(dict.fromkeys((str(label), f'{row["label"]:g}'))),
  }


def _without_csv_quotes(text: str) -> str:
  inner = text[1:-1]
  if len(text) > 1 and text[0] == text[-1] == '"':
    if '"' not in inner.replace('""', ''):
      text = inner
  return text.replace('""', "'")
