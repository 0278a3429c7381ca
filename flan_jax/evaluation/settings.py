"""The settings of `flan-jax eval`."""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
import re
from typing import Any

from flan_jax import configuration
from flan_jax import errors
from flan_jax import paths as paths_lib
from flan_jax.evaluation import plan
from flan_jax.inference import asking

# Says that there is no untuned model to compare with.
NONE = 'none'
# What one checkpoint is called if it has no label.
TUNED = 'tuned'
# Words that tables and files use for something else.
_TAKEN = ('untuned', 'majority', 'random')
_LABELLED = re.compile(r'([^/=]+)=(.+)')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval(asking.Asking):
  """The settings of `flan-jax eval`, beside those of `Asking`.

  Attributes:
    checkpoint_path: A run, one of its checkpoints, or a checkpoint in another
      format; `LABEL=PATH` names it.
    checkpoint_paths: Several of them instead, to go into one table: paths,
      `LABEL=PATH` texts, or a map from labels to paths.
    output_dir: Where the files of the evaluation go.
    untuned_checkpoint_path: The model to compare with; by default each run's
      checkpoint_0, and 'none' for none.
    mixture_or_task_name: What to evaluate; by default the mixtures of the runs
      and the datasets that they hold out.
    templates: 'all', 'trained' (those that training saw) or 'held_out' (those
      that it did not, those of held-out datasets included).
    shots: How many exemplars precede an example, such as (0, 1, 5) or 'fit' for
      as many as fit; the first one is the setting of the main table, and each
      other one is beside it. By default what the names say.
    baselines: Of 'no_template' (the fields alone) and 'name_only' (the
      dataset's name and the fields): settings beside the main one.
    best_template: Whether to look on the validation split for the best
      template of each dataset.
    best_template_examples: At most this many validation rows of a dataset.
    split: 'train', 'validation' or 'test'.
    max_examples: At most this many rows of a dataset, a seeded choice.
    random_seed: Chooses rows, exemplars, the order of random options, and what
      random choice says.
  """

  output_dir: str
  checkpoint_path: str | None = None
  checkpoint_paths: Sequence[str] | Mapping[str, str] | None = None
  untuned_checkpoint_path: str | None = None
  mixture_or_task_name: str | None = None
  templates: str = 'all'
  shots: Sequence[int | str] | int | str | None = None
  baselines: Sequence[str] | str = ()
  best_template: bool = True
  best_template_examples: int | None = 200
  split: str = 'test'
  max_examples: int | None = 200
  random_seed: int = 0
  batch_size: int = 64

  def __post_init__(self):
    super().__post_init__()
    configuration.text('EVAL_OUTPUT_DIR', self.output_dir)
    paths_lib.check_local('EVAL_OUTPUT_DIR', self.output_dir)
    configuration.text('SPLIT', self.split)
    configuration.instance('BEST_TEMPLATE', self.best_template, bool)
    configuration.text('TEMPLATES', self.templates)
    plan.check_selection(self.templates)
    for name, value in (
        ('CHECKPOINT_PATH', self.checkpoint_path),
        ('UNTUNED_CHECKPOINT_PATH', self.untuned_checkpoint_path),
        ('MIXTURE_OR_TASK_NAME', self.mixture_or_task_name),
    ):
      if value is not None:
        configuration.text(name, value)
    configuration.whole_number('RANDOM_SEED', self.random_seed)
    for name, limit in (
        ('MAX_EXAMPLES', self.max_examples),
        ('BEST_TEMPLATE_EXAMPLES', self.best_template_examples),
    ):
      if limit is not None:
        configuration.whole_number(name, limit, 1)
    plan.check_shots(self.all_shots)
    plan.check_baselines(self.all_baselines)
    _ = self.checkpoints  # Fails now rather than when it is used.

  @property
  def all_shots(self) -> tuple[Any, ...]:
    """The numbers of exemplars; () for what the names say."""
    if self.shots is None:
      return ()
    return _as_tuple(self.shots)

  @property
  def all_baselines(self) -> tuple[Any, ...]:
    return _as_tuple(self.baselines)

  @property
  def checkpoints(self) -> dict[str, str]:
    """The paths to evaluate, by label.

    Raises:
      UserError: There are none, two have one label, or a label is taken.
    """
    if self.checkpoint_path is not None and self.checkpoint_paths is not None:
      raise errors.UserError(
          'CHECKPOINT_PATHS: CHECKPOINT_PATH is set as well; set one of them'
      )
    if self.checkpoint_path is not None:
      label, path = _labelled(self.checkpoint_path)
      return _checked([(label or TUNED, path)])
    if self.checkpoint_paths is None:
      raise errors.UserError(
          'CHECKPOINT_PATH: is required: pass --checkpoint=DIR, or several of'
          ' them'
      )
    return _checked(_several(self.checkpoint_paths))


def _as_tuple(value: Any) -> tuple[Any, ...]:
  if isinstance(value, (list, tuple)):
    return tuple(value)
  return (value,)


def _several(given: Any) -> list[tuple[str, str]]:
  """Returns labels and paths of CHECKPOINT_PATHS."""
  if isinstance(given, Mapping):
    pairs = list(given.items())
  elif isinstance(given, (list, tuple)):
    pairs = []
    for each in given:
      configuration.text('CHECKPOINT_PATHS', each)
      pairs.append(_labelled(each))
  else:
    raise errors.UserError(
        "CHECKPOINT_PATHS: must be like ['runs/a', 'big=runs/b'], not"
        f' {given!r}'
    )
  if not pairs:
    raise errors.UserError('CHECKPOINT_PATHS: must not be empty')
  if len(pairs) == 1:
    label, path = pairs[0]
    return [(label or TUNED, path)]
  unnamed = [path for label, path in pairs if not label]
  names = dict(zip(unnamed, _short_names(unnamed), strict=True))
  return [(label or names[path], path) for label, path in pairs]


def _labelled(text: str) -> tuple[str, str]:
  """Splits LABEL=PATH; the label is '' if there is none."""
  match = _LABELLED.fullmatch(text)
  if match is None or pathlib.Path(text).expanduser().exists():
    return '', text
  return match[1], match[2]


def _short_names(paths: Sequence[str]) -> list[str]:
  """Returns the ends of paths that tell them apart."""
  parts = [pathlib.Path(path).expanduser().parts for path in paths]
  longest = max(map(len, parts), default=0)
  for length in range(1, longest + 1):
    names = ['/'.join(each[-length:]) for each in parts]
    if len(set(names)) == len(set(parts)):
      break
  return names if parts else []


def _checked(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
  found: dict[str, str] = {}
  for label, path in pairs:
    configuration.text('CHECKPOINT_PATHS', label)
    configuration.text('CHECKPOINT_PATHS', path)
    if label in _TAKEN or (label == TUNED and len(pairs) > 1):
      raise errors.UserError(
          f"CHECKPOINT_PATHS: '{label}' has a meaning of its own in the table;"
          ' choose another label'
      )
    if label in found:
      raise errors.UserError(
          f"CHECKPOINT_PATHS: '{label}' is there twice ({found[label]} and"
          f' {path}); name them with LABEL=PATH'
      )
    found[label] = path
  return found
