"""Tasks: a dataset under one setting, and how they are called.

A name is the dataset's or mixture's, then the parts that differ from the
default, each after a ':', in this order:

  held_out                                 a mixture's held-out datasets
  template_<name or number>, <n>_templates, no_template, name_only
  <k>_shot, fit_shot
  no_options, random_options
  rank, generate                           for evaluation
"""

from collections.abc import Callable
import dataclasses
import functools
import re

from flan_jax import errors
from flan_jax.data import slots
from flan_jax.data import specs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """How a dataset is put to the model; the defaults are the plain name's.

  Attributes:
    held_out: A mixture's held-out datasets instead of its members.
    template: One template alone, by name or by number from 0.
    num_templates: Only the first so many templates.
    baseline: 'no_template' (the fields alone), 'name_only' (the dataset's name
      and the fields), or ''.
    shots: How many exemplars precede the example; 'fit' for as many as fit.
    options: Options are 'shown', 'hidden', or shown in 'random' order.
    evaluation: 'rank', 'generate', or '' for what suits the dataset.
  """

  held_out: bool = False
  template: str = ''
  num_templates: int | None = None
  baseline: str = ''
  shots: int | str = 0
  options: str = 'shown'
  evaluation: str = ''


_Values = dict[str, object]
# One row for each group of parts, in the order of a name: what may stand
# there, the pattern, and the values of `Setting` that a match means.
_GROUPS: tuple[
    tuple[tuple[str, str, Callable[[re.Match[str]], _Values]], ...], ...
] = (
    (('held_out', r'held_out', lambda m: {'held_out': True}),),
    (
        (
            'template_<name or number>',
            r'template_([a-z0-9_]+)',
            lambda m: {'template': str(int(m[1])) if m[1].isdigit() else m[1]},
        ),
        (
            '<n>_templates',
            r'0*([1-9][0-9]*)_templates',
            lambda m: {'num_templates': int(m[1])},
        ),
        ('no_template', r'no_template', lambda m: {'baseline': m[0]}),
        ('name_only', r'name_only', lambda m: {'baseline': m[0]}),
    ),
    (
        ('<k>_shot', r'0*([1-9][0-9]*)_shot', lambda m: {'shots': int(m[1])}),
        ('fit_shot', r'fit_shot', lambda m: {'shots': 'fit'}),
    ),
    (
        ('no_options', r'no_options', lambda m: {'options': 'hidden'}),
        ('random_options', r'random_options', lambda m: {'options': 'random'}),
    ),
    (
        ('rank', r'rank', lambda m: {'evaluation': m[0]}),
        ('generate', r'generate', lambda m: {'evaluation': m[0]}),
    ),
)
PARTS = tuple(label for group in _GROUPS for label, _, _ in group)


def parse_name(name: str) -> tuple[str, Setting]:
  """Splits a name into its dataset or mixture and the setting.

  Raises:
    UserError: A part is unknown, two parts exclude each other, or the parts
      are not in their order.
  """
  base, *parts = name.split(':')
  if not base:
    raise errors.UserError(f"'{name}': a name starts with a dataset or mixture")
  values: _Values = {}
  seen: dict[int, str] = {}
  for part in parts:
    group, found = _read_part(name, part)
    if group in seen:
      raise errors.UserError(
          f"'{name}': '{seen[group]}' and '{part}' cannot go together"
      )
    seen[group] = part
    values |= found
  setting = dataclasses.replace(Setting(), **values)  # type: ignore[arg-type]
  right = format_name(base, setting)
  if right != name:
    raise errors.UserError(f"'{name}' is spelled '{right}'")
  return base, setting


def _read_part(name: str, part: str) -> tuple[int, _Values]:
  for group, options in enumerate(_GROUPS):
    for _, pattern, values in options:
      match = re.fullmatch(pattern, part, re.ASCII)
      if match:
        return group, values(match)
  raise errors.UserError(
      f"'{name}': unknown part '{part}'.{errors.nearest(part, list(PARTS))}"
      f' Parts, in their order: {", ".join(PARTS)}'
  )


def format_name(base: str, setting: Setting) -> str:
  """Returns the one spelling of a name; the inverse of `parse_name`."""
  parts = [base]
  if setting.held_out:
    parts.append('held_out')
  if setting.template:
    parts.append(f'template_{setting.template}')
  if setting.num_templates is not None:
    parts.append(f'{setting.num_templates}_templates')
  if setting.baseline:
    parts.append(setting.baseline)
  if setting.shots:
    parts.append(f'{setting.shots}_shot')
  if setting.options != 'shown':
    parts.append(_OPTIONS_PARTS[setting.options])
  if setting.evaluation:
    parts.append(setting.evaluation)
  return ':'.join(parts)


_OPTIONS_PARTS = {'hidden': 'no_options', 'random': 'random_options'}


def combine(inner: Setting, outer: Setting) -> Setting:
  """Returns `inner` with all that `outer` says replaced.

  The parts that exclude each other in a name replace each other.
  """
  values = _differences(outer)
  if {'template', 'num_templates', 'baseline'} & values.keys():
    inner = dataclasses.replace(
        inner, template='', num_templates=None, baseline=''
    )
  return dataclasses.replace(inner, **values)


def _differences(setting: Setting) -> dict:
  return {
      field.name: getattr(setting, field.name)
      for field in dataclasses.fields(setting)
      if getattr(setting, field.name) != field.default
  }


@dataclasses.dataclass(frozen=True)
class Task:
  """A dataset under one setting.

  Attributes:
    name: The full name, as `format_name` writes it.
    dataset: The declaration.
    setting: The setting.

  Raises:
    UserError: The dataset has not what the setting asks for.
  """

  name: str
  dataset: specs.Dataset
  setting: Setting = Setting()

  def __post_init__(self):
    if self.setting.held_out:
      raise errors.UserError(
          f"'{self.name}': held_out is for mixtures, and '{self.dataset.name}'"
          ' is a dataset'
      )
    if self.setting.evaluation == 'rank' and not self.dataset.choices:
      raise errors.UserError(
          f"'{self.name}': '{self.dataset.name}' has no choices to rank; say"
          ' generate'
      )
    _ = self.templates  # Fails now rather than with the first example.

  @property
  def choice_name(self) -> str:
    """The name that random choices hang on.

    It leaves out how predictions are made, so that `rank` and `generate` put
    the same prompts.
    """
    setting = dataclasses.replace(self.setting, evaluation='')
    return format_name(self.dataset.name, setting)

  @functools.cached_property
  def templates(self) -> tuple[specs.Template, ...]:
    """The templates in play, at least one.

    A template that is held out is in play only if the name asks for it. For
    evaluation (`rank`, `generate`) those that ask for something else than the
    answer are out of play, unless the name asks for one.
    """
    setting = self.setting
    if setting.baseline:
      return (_baseline(self.name, self.dataset, setting.baseline),)
    if setting.template:
      template = _named(self.name, self.dataset, setting.template)
      if setting.evaluation == 'rank' and not ranks(self.dataset, template):
        raise errors.UserError(
            f"'{self.name}': template '{template.name}' does not ask for one of"
            ' the choices, so it cannot be ranked'
        )
      return (template,)
    found = [t for t in self.dataset.templates if not t.held_out]
    found = found[: setting.num_templates]
    if setting.evaluation == 'rank':
      found = [t for t in found if ranks(self.dataset, t)]
    elif setting.evaluation == 'generate':
      found = [t for t in found if not t.inverted]
    if not found:
      raise errors.UserError(
          f"'{self.name}': no template of '{self.dataset.name}' is left that"
          ' asks for the answer'
      )
    return tuple(found)


def create(dataset: specs.Dataset, setting: Setting = Setting()) -> Task:  # noqa: B008
  """Returns the task of a dataset under a setting."""
  return Task(format_name(dataset.name, setting), dataset, setting)


def ranks(dataset: specs.Dataset, template: specs.Template) -> bool:
  """Whether a template asks for one of the choices, so they can be ranked."""
  return (
      dataset.choices is not None
      and not template.inverted
      and 'answer' in slots.names(slots.split(template.targets))
  )


def _named(task: str, dataset: specs.Dataset, template: str) -> specs.Template:
  if template.isdigit():
    if int(template) < len(dataset.templates):
      return dataset.templates[int(template)]
    raise errors.UserError(
        f"'{task}': '{dataset.name}' has {len(dataset.templates)} templates,"
        f' numbered from 0; there is no number {template}'
    )
  for candidate in dataset.templates:
    if candidate.name == template:
      return candidate
  known = [candidate.name for candidate in dataset.templates]
  raise errors.UserError(
      f"'{task}': '{dataset.name}' has no template"
      f" '{template}'.{errors.nearest(template, known)}"
      f' It has {", ".join(known)}'
  )


def _baseline(
    task: str, dataset: specs.Dataset, baseline: str
) -> specs.Template:
  """The template that stands for none: the fields, a line each.

  The targets are those of the first template that asks for the answer, and the
  fields are those that such templates show and that are not in the targets.
  """
  asking = [t for t in dataset.templates if not t.inverted]
  if not asking:
    raise errors.UserError(
        f"'{task}': no template of '{dataset.name}' asks for the answer"
    )
  targets = asking[0].targets
  shown = {
      name for t in asking for name in slots.names(slots.split(t.inputs))
  } - set(slots.names(slots.split(targets)))
  lines = [f'{{{name}}}' for name in dataset.field_names if name in shown]
  if not lines:
    raise errors.UserError(
        f"'{task}': '{dataset.name}' shows no field without its template"
    )
  if baseline == 'name_only':
    lines.insert(0, dataset.name)
  return specs.Template(name='', inputs='\n'.join(lines), targets=targets)
