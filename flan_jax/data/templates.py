"""Rendering: rows of fields become text, in batches.

All choices (template, order of options, exemplars) are hashes of the seed, the
task's name, the row and the epoch, so they do not depend on how rows are
batched.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import operator
from typing import Any, Protocol

from flan_jax import errors
from flan_jax import vocabularies
from flan_jax.data import examples
from flan_jax.data import exemplars as exemplars_lib
from flan_jax.data import few_shot
from flan_jax.data import options as options_lib
from flan_jax.data import prompts
from flan_jax.data import seeding
from flan_jax.data import slots
from flan_jax.data import specs
from flan_jax.data import tasks
import numpy as np

_Row = Mapping[str, Any]

# What a choice is for, so that different choices are independent.
_TEMPLATE, _OPTIONS, _EXEMPLARS = range(3)


class Rows(Protocol):
  """What rendering needs of `rows.Rows`."""

  split: str

  def __len__(self) -> int:
    ...

  def fields(self, indices: np.ndarray) -> list[dict[str, Any]]:
    ...

  def row_ids(self, indices: np.ndarray) -> list[str]:
    ...


class Text:
  """A text with slots, made ready to be filled many times.

  `pattern % values(row)` is the filled text: the fastest way that Python has.

  Attributes:
    pattern: A %-format with '%s' for every slot.
    values: Takes the slots' values, a tuple, from a row of fields.
    names: The slots' names.
  """

  def __init__(self, pieces: slots.Pieces):
    self.names = slots.names(pieces)
    self.pattern = '%s'.join(
        literal.replace('%', '%%') for literal in pieces[::2]
    )
    self.values: Callable[[_Row], tuple] = _nothing
    if len(self.names) == 1:
      # itemgetter gives a tuple from two names on; '%.0s' prints nothing.
      self.pattern += '%.0s'
      self.values = operator.itemgetter(*self.names, *self.names)
    elif self.names:
      self.values = operator.itemgetter(*self.names)

  def fill(self, row: _Row) -> str:
    """Returns the text with the row's values in its slots."""
    return self.pattern % self.values(row)


def _nothing(row: _Row) -> tuple:
  del row  # A text without slots.
  return ()


@dataclasses.dataclass(frozen=True)
class Compiled:
  """A template, ready to be filled.

  Attributes:
    template: As declared.
    inputs: Its inputs.
    targets: Its targets.
    ranks: Whether the targets are one of the options.
    plain: Whether the targets are the bare answer.
    reference_slot: The one slot of the targets whose value may be replaced by
      any other reference; '' if there is no such.
    asks_by_field: Whether the inputs show anything of the row itself, beside
      its options and answer; otherwise many rows have the same inputs.
  """

  template: specs.Template
  inputs: Text
  targets: Text
  ranks: bool
  plain: bool
  reference_slot: str
  asks_by_field: bool


def compile_template(
    dataset: specs.Dataset, template: specs.Template, options: str = 'shown'
) -> Compiled:
  """Makes a template ready under 'shown', 'hidden' or 'random' options.

  What is the same for every row (constants, hidden options, options that are
  always the same) is written into the text here.
  """
  choices = dataset.choices

  def text(source: str) -> Text:
    pieces = slots.split(source)
    for name, constant in dataset.constants.items():
      pieces = slots.fill(pieces, name, constant)
    if choices and options == 'hidden':
      pieces = slots.without(pieces, 'options')
    elif choices and choices.names and options == 'shown':
      pieces = slots.fill(pieces, 'options', options_lib.text(choices.names))
    return Text(pieces)

  inputs, targets = text(template.inputs), text(template.targets)
  single = len(targets.names) == 1 and not template.inverted
  return Compiled(
      template=template,
      inputs=inputs,
      targets=targets,
      ranks=tasks.ranks(dataset, template),
      plain=template.targets == '{answer}',
      reference_slot=targets.names[0] if single and dataset.references else '',
      asks_by_field=bool(set(inputs.names) - {'options', 'answer'}),
  )


class Renderer:
  """Renders one task's rows of one split."""

  def __init__(
      self,
      task: tasks.Task,
      rows: Rows,
      *,
      seed: int,
      vocabulary: vocabularies.Vocabulary | None = None,
      max_inputs: int | None = None,
      exemplars: Rows | None = None,
      layout: few_shot.Layout = few_shot.Layout(),  # noqa: B008
      cache: exemplars_lib.Cache | None = None,
  ):
    """Makes the task's templates ready.

    Args:
      task: What to render.
      rows: The split's rows.
      seed: Of all choices.
      vocabulary: Counts tokens; needed by `fit_shot`, and for exemplars to be
        dropped when they do not fit.
      max_inputs: The tokens that fit, end of sequence included.
      exemplars: The rows of the train split, for tasks with shots; may be left
        out where `rows` are those.
      layout: How exemplars stand before the query.
      cache: Keeps exemplars; may be that of other renderers too.

    Raises:
      UserError: `fit_shot` without a vocabulary.
      ValueError: A task with shots, but no exemplars.
    """
    setting = task.setting
    counted = vocabulary is not None and max_inputs is not None
    if setting.shots == 'fit' and not counted:
      raise errors.UserError(
          f"'{task.name}': fit_shot needs a vocabulary and the inputs' length"
      )
    if setting.shots and exemplars is None:
      if rows.split != 'train':
        raise ValueError(f"'{task.name}' needs the rows of the train split")
      exemplars = rows
    self.task = task
    self._rows = rows
    self._seed = seed
    self._name = seeding.name_seed(task.choice_name)
    self._compiled = tuple(
        compile_template(task.dataset, template, setting.options)
        for template in task.templates
    )
    self._options = (
        options_lib.Reader(task.dataset) if task.dataset.choices else None
    )
    self._shows_options = any(
        'options' in c.inputs.names + c.targets.names for c in self._compiled
    )

    # Options whose order is no part of the question.
    self._turns_options = setting.options == 'random' and self._shows_options
    self._prompter: prompts.Prompter | None = None
    if setting.shots:
      assert exemplars is not None
      self._prompter = self._make_prompter(
          exemplars,
          layout,
          vocabulary=vocabulary if counted else None,
          max_inputs=max_inputs,
          cache=cache,
      )

  def _make_prompter(
      self, exemplars: Rows, layout: few_shot.Layout, **kwargs: Any
  ) -> prompts.Prompter:
    shots = self.task.setting.shots

    def render(rows, own, asked, epochs):
      return self._shown(self._fill(exemplars, rows, epochs)[0], own, asked)

    pool = exemplars_lib.Pool(
        size=len(exemplars),
        shared=exemplars is self._rows,
        row_ids=exemplars.row_ids,
        render=render,
        templates=len(self._compiled),
        by_epoch=self.task.setting.options == 'random',
    )
    count = few_shot.MAX_EXEMPLARS if shots == 'fit' else int(shots)
    return prompts.Prompter(
        self.task.choice_name, pool, count, layout, **kwargs
    )

  @property
  def has_exemplars(self) -> bool:
    """Whether exemplars stand before the inputs."""
    return self._prompter is not None

  def render_texts(
      self, indices: np.ndarray, epochs: np.ndarray
  ) -> tuple[list[str], list[str]]:
    """Renders inputs and targets alone: the fast path of training.

    Args:
      indices: Rows of the split, int [B].
      epochs: How often each row has been seen before, int [B].

    Returns:
      Inputs and targets, in the order of `indices`; the same texts as
      `render` gives.

    Raises:
      UserError: A row's label is none of its options.
    """
    indices, epochs = _pair(indices, epochs)
    rows, _ = self._fill(self._rows, indices, epochs)
    chosen = self._choose(indices, epochs)
    if self._prompter is None:
      return self._texts(rows, chosen)
    queries = self._queries(rows, indices, epochs, chosen)
    targets = [shown.targets for shown in queries.shown]
    return self._prompter.texts(queries), targets

  def render_ids(
      self, indices: np.ndarray, epochs: np.ndarray
  ) -> tuple[list[list[np.ndarray]], list[str]]:
    """Renders inputs as ids, for a task with exemplars and a vocabulary.

    Args:
      indices: Rows of the split, int [B].
      epochs: How often each row has been seen before, int [B].

    Returns:
      For each row the ids of its inputs, int32, in parts that stand end to
      end; and its targets. The ids are those of the texts of `render_texts`.

    Raises:
      UserError: A row's label is none of its options.
    """
    assert self._prompter is not None
    indices, epochs = _pair(indices, epochs)
    rows, _ = self._fill(self._rows, indices, epochs)
    chosen = self._choose(indices, epochs)
    queries = self._queries(rows, indices, epochs, chosen)
    targets = [shown.targets for shown in queries.shown]
    return self._prompter.ids(queries), targets

  def render(
      self, indices: np.ndarray, epochs: np.ndarray
  ) -> list[examples.Example]:
    """Renders examples with all that evaluation needs.

    Args:
      indices: Rows of the split, int [B].
      epochs: How often each row has been seen before, int [B].

    Raises:
      UserError: A row's label is none of its options.
    """
    indices, epochs = _pair(indices, epochs)
    rows, answered = self._fill(self._rows, indices, epochs)
    chosen = self._choose(indices, epochs)
    inputs, targets = self._texts(rows, chosen)
    if self._prompter is not None:
      inputs = self._prompter.texts(
          self._queries(rows, indices, epochs, chosen)
      )
    row_ids = self._rows.row_ids(indices)
    return [
        self._example(
            self._compiled[choice],
            row,
            answered[place] if answered else None,
            row_id=row_ids[place],
            inputs=inputs[place],
            targets=targets[place],
        )
        for place, (choice, row) in enumerate(zip(chosen, rows, strict=True))
    ]

  def _example(
      self,
      compiled: Compiled,
      row: _Row,
      answered: options_lib.Answered | None,
      **texts: str,
  ) -> examples.Example:
    group_by = self.task.dataset.group_by
    options, right = None, None
    if compiled.ranks and answered:
      options, right = answered
      if not compiled.plain:
        options = tuple(
            compiled.targets.fill({**row, 'answer': option})
            for option in options
        )
    return examples.Example(
        task=self.task.name,
        template=compiled.template.name,
        options=options,
        answer_index=right,
        references=self._references(compiled, row, texts['targets']),
        inverted=compiled.template.inverted,
        group=row[group_by] if group_by else '',
        **texts,
    )

  def _references(
      self, compiled: Compiled, row: _Row, targets: str
  ) -> tuple[str, ...]:
    """All accepted targets, the example's own first.

    The references take the place of the one slot in the targets, if that slot
    holds one of them: otherwise they answer something else.
    """
    slot = compiled.reference_slot
    if not slot:
      return (targets,)
    references = row[self.task.dataset.references]
    if isinstance(references, str):
      references = (references,)
    if row[slot] not in references:
      return (targets,)
    accepted = (compiled.targets.fill({slot: text}) for text in references)
    return tuple(dict.fromkeys((targets, *accepted)))

  def _hashes(
      self, purpose: int, indices: np.ndarray, epochs: np.ndarray
  ) -> np.ndarray:
    return seeding.hash_ints(self._seed, self._name, purpose, indices, epochs)

  def _choose(self, indices: np.ndarray, epochs: np.ndarray) -> list[int]:
    """Chooses each row's template, by its place among those in play."""
    if len(self._compiled) == 1:
      return [0] * len(indices)
    hashes = self._hashes(_TEMPLATE, indices, epochs)
    return seeding.choose(hashes, len(self._compiled)).tolist()

  def _fill(
      self, rows: Rows, indices: np.ndarray, epochs: np.ndarray
  ) -> tuple[list[dict[str, Any]], list[options_lib.Answered]]:
    """Reads rows, with their options and answer among the fields."""
    fields = rows.fields(indices)
    if not self._options:
      return fields, []
    answered = self._options.read(
        fields, lambda place: rows.row_ids(indices[place : place + 1])[0]
    )
    if self.task.setting.options == 'random':
      hashes = self._hashes(_OPTIONS, indices, epochs)
      answered = options_lib.shuffled(answered, hashes)
    if not self._shows_options:
      return [
          {**row, 'answer': options[right]}
          for row, (options, right) in zip(fields, answered, strict=True)
      ], answered
    return [
        {
            **row,
            'answer': options[right],
            'options': options_lib.text(options),
        }
        for row, (options, right) in zip(fields, answered, strict=True)
    ], answered

  def _texts(
      self, rows: Sequence[_Row], chosen: Sequence[int]
  ) -> tuple[list[str], list[str]]:
    inputs = [(c.inputs.pattern, c.inputs.values) for c in self._compiled]
    targets = [(c.targets.pattern, c.targets.values) for c in self._compiled]
    return _fill_each(inputs, rows, chosen), _fill_each(targets, rows, chosen)

  def _queries(
      self,
      rows: Sequence[_Row],
      indices: np.ndarray,
      epochs: np.ndarray,
      chosen: Sequence[int],
  ) -> exemplars_lib.Queries:
    return exemplars_lib.Queries(
        shown=self._shown(rows, chosen, chosen),
        indices=indices,
        epochs=epochs,
        chosen=chosen,
        hashes=self._hashes(_EXEMPLARS, indices, epochs),
        row_ids=lambda: self._rows.row_ids(indices),
    )

  def _shown(
      self, rows: Sequence[_Row], own: Sequence[int], asked: Sequence[int]
  ) -> list[exemplars_lib.Shown]:
    """Renders rows under their own templates, to be told by the asked ones.

    Rows put the same question if they have the same inputs; where inputs hold
    nothing of the row itself (write a text of such a class), if they have the
    same targets too. The order of options is no part of it.
    """
    inputs, targets = self._texts(rows, own)
    tellers, answers = inputs, targets
    if self._turns_options:
      plain = [{**row, 'options': ''} for row in rows]
      tellers, answers = self._texts(plain, asked)
    elif own is not asked and own != asked:
      tellers, answers = self._texts(rows, asked)
    by_field = [compiled.asks_by_field for compiled in self._compiled]
    identities = [
        teller if by_field[choice] else f'{teller}\0{answer}'
        for teller, answer, choice in zip(tellers, answers, asked, strict=True)
    ]
    return [
        exemplars_lib.Shown(*each)
        for each in zip(inputs, targets, identities, strict=True)
    ]


def _pair(
    indices: np.ndarray, epochs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  indices = np.asarray(indices, np.int64)
  return indices, np.broadcast_to(np.asarray(epochs, np.int64), indices.shape)


def _fill_each(
    texts: Sequence[tuple[str, Callable[[_Row], tuple]]],
    rows: Sequence[_Row],
    chosen: Sequence[int],
) -> list[str]:
  """Fills for each row the text of its choice."""
  if len(texts) == 1:
    pattern, values = texts[0]
    return [pattern % values(row) for row in rows]
  patterns = [pattern for pattern, _ in texts]
  getters = [values for _, values in texts]
  return [
      patterns[choice] % getters[choice](row)
      for choice, row in zip(chosen, rows, strict=True)
  ]
