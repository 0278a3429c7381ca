"""Super-NaturalInstructions task files as datasets.

A task file declares itself: its definition is the instruction, its category
the cluster. The folder of such files is one mixture, `sni`.
"""

import collections
from collections.abc import Sequence
import pathlib
import re
from typing import Any

from flan_jax.data import specs
from flan_jax.data.sources import sni

MIXTURE = 'sni'
# A dataset counts for at most this many examples in the mixing rates: the
# files hold from a dozen to several thousand instances, and many tasks teach
# more than many instances of one task.
MAX_RATE = 100
_MAX_CLASSES = 10
_MIN_EACH = 5

# name, before the input, between input and answer. The definition comes first
# in some and last in others, so that its place is no cue.
_TEMPLATES = (
    ('definition_first', '{definition}\n\n{input}', ''),
    ('labelled', 'Task: {definition}\n\nInput: {input}', '\n\nOutput:'),
    ('definition_last', '{input}\n\n{definition}', ''),
    (
        'apply',
        (
            'Follow this instruction for the text below it.\n{definition}\n\n'
            'Text:\n{input}'
        ),
        '',
    ),
    ('question_and_answer', 'Q: {definition}\n{input}', '\nA:'),
)


def is_task_file(path: pathlib.Path) -> bool:
  """Whether a file is named as Super-NaturalInstructions names its tasks."""
  return path.suffix == '.json' and path.name.startswith('task')


def dataset_name(task: str) -> str:
  """Turns a task's name into a dataset's: lower case, '_' for all else."""
  return re.sub(r'[^a-z0-9_]', '_', task.lower())


def held_out_names(folder: pathlib.Path) -> frozenset[str]:
  """Reads the official list of test tasks that lies beside a folder of tasks.

  Returns:
    Dataset names; none if there is no `../splits/default/test_tasks.txt`.
  """
  path = folder.parent / 'splits' / 'default' / 'test_tasks.txt'
  if not path.is_file():
    return frozenset()
  lines = path.read_text(encoding='utf-8').split()
  return frozenset(dataset_name(line) for line in lines)


def load(path: pathlib.Path) -> specs.Dataset:
  """Declares the dataset of a task file.

  A task is a classification when its answers are few and each comes often; its
  classes are then in alphabetical order.

  Raises:
    UserError: The file is not a task file.
  """
  task = sni.read_task(path)
  classes = _classes([_outputs(instance) for instance in task.instances])
  fields = {'definition': 'definition', 'input': 'input'}
  if not classes:
    fields |= {'output': 'output.0', 'outputs': 'output'}
  return specs.Dataset(
      name=dataset_name(path.stem),
      path=path,
      collection=MIXTURE,
      cluster=_cluster(task.categories),
      description=f'Super-NaturalInstructions {path.stem}.',
      licence=', '.join(task.licences),
      source=specs.Source(kind='sni', where=path.name),
      splits=sni.split_slices(len(task.instances)),
      fields=fields,
      choices=specs.Choices(label='output.0', names=classes)
      if classes
      else None,
      references='' if classes else 'outputs',
      metrics=('rouge', 'exact_match'),
      templates=_templates(bool(classes)),
  )


def _outputs(instance: Any) -> list[str]:
  """An instance's answers; none if it is broken, which its reader reports."""
  output = instance.get('output') if isinstance(instance, dict) else None
  listed = output if isinstance(output, list) else [output]
  # NaN, which differs from itself, is how these files say that nothing is.
  return [str(text) for text in listed if text is not None and text == text]


def _classes(outputs: Sequence[list[str]]) -> tuple[str, ...]:
  """Returns the classes of a classification task, () for any other."""
  if any(len(texts) > 1 for texts in outputs):
    return ()
  counts = collections.Counter(texts[0] for texts in outputs if texts)
  if not 2 <= len(counts) <= _MAX_CLASSES or min(counts.values()) < _MIN_EACH:
    return ()
  return tuple(sorted(counts)) if all(map(str.strip, counts)) else ()


def _cluster(categories: tuple[str, ...]) -> str:
  name = re.sub(r'[^a-z0-9]+', '_', ''.join(categories[:1]).lower()).strip('_')
  return name or 'uncategorised'


def _templates(choices: bool) -> tuple[specs.Template, ...]:
  options = '\n\n{options}' if choices else ''
  targets = '{answer}' if choices else '{output}'
  return tuple(
      specs.Template(name=name, inputs=body + options + cue, targets=targets)
      for name, body, cue in _TEMPLATES
  )
