"""What rendering makes of a row: one example, as text."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
  """Inputs and targets as text, with all that evaluation needs to know.

  Attributes:
    task: The task's full name, as it was asked for.
    template: The template's name; '' under `no_template` and `name_only`.
    row_id: The row's place in its source, such as 'train:17'.
    inputs: What the model reads.
    targets: What the model is to write.
    options: The answer options, in the order shown; None for generation.
    answer_index: The right option's place in `options`; None for generation.
    references: All accepted targets; the first one is `targets`.
    inverted: Whether the template asks for something else than the answer.
    group: What examples that a metric scores together share; '' for none.
  """

  task: str
  template: str
  row_id: str
  inputs: str
  targets: str
  options: tuple[str, ...] | None = None
  answer_index: int | None = None
  references: tuple[str, ...] = ()
  inverted: bool = False
  group: str = ''
