"""What is wrong, or looks wrong, in declarations and in the rows they name.

Reading a declaration finds what cannot work (`specs`). Here is what works and
is a mistake all the same: a template that gives its answer away, one that is
there twice, a field that nothing uses, a target that is empty.
"""

import collections
from collections.abc import Iterator, Sequence
import dataclasses
import difflib
import itertools
import re

from flan_jax import errors
from flan_jax.data import examples as examples_lib
from flan_jax.data import seeding
from flan_jax.data import slots
from flan_jax.data import specs
from flan_jax.data import tasks
from flan_jax.data import templates
import numpy as np

# Rows of a split that are looked at.
ROWS = 64
# Templates whose words are so much alike are one template, written twice.
_ALIKE = 0.92
_WORDS = re.compile(r'\w+')
# Stands for a slot's text, whatever it is.
_SLOT = '\ufffc'
_TEXT_MISTAKES = (
    (re.compile(r'(?<=\S)[^\S\n]{2,}(?=\S)'), 'two spaces'),
    (re.compile(r'[^\S\n]+$', re.MULTILINE), 'a space at the end of a line'),
    (re.compile(r'[^\S\n][,.;](?=\s|$)'), 'a space before punctuation'),
    (re.compile(r'([,;:!?])\1|[,;:!?][.,;:]'), 'doubled punctuation'),
    (re.compile(r'(?<!\.)\.\.(?!\.)'), 'doubled punctuation'),
)
_CLOSING = '.!?,;:'


@dataclasses.dataclass(frozen=True)
class Finding:
  """Something wrong.

  Attributes:
    file: The declaration's file; its name where it has none.
    template: The template's name; '' if it is not about one.
    message: What is wrong.
  """

  file: str
  template: str
  message: str

  def __str__(self) -> str:
    parts = (self.file, self.template, self.message)
    return ': '.join(part for part in parts if part)


def declaration(dataset: specs.Dataset) -> list[Finding]:
  """Returns what is wrong in a declaration, its rows unseen."""
  return [
      *_unused_fields(dataset),
      *_repeated(dataset),
      *_unmarked(dataset),
      *itertools.chain.from_iterable(
          _template(dataset, template) for template in dataset.templates
      ),
  ]


def _finding(
    dataset: specs.Dataset, message: str, template: str = ''
) -> Finding:
  where = str(dataset.path) if dataset.path.name else dataset.name
  return Finding(where, template, message)


def _slots(text: str) -> tuple[str, ...]:
  return slots.names(slots.split(text))


def _literal(text: str) -> str:
  """Returns a template's text with its slots all alike."""
  return _SLOT.join(slots.split(text)[::2])


def _unused_fields(dataset: specs.Dataset) -> Iterator[Finding]:
  used = {dataset.references, dataset.group_by}
  if dataset.choices:
    used |= {dataset.choices.label, dataset.choices.list}
    used |= set(dataset.choices.fields)
  for template in dataset.templates:
    used |= {*_slots(template.inputs), *_slots(template.targets)}
  for name in dataset.field_names:
    if name not in used:
      yield _finding(dataset, f"no template uses the field '{name}'")
  if dataset.choices and not used & {'answer', 'options'}:
    yield _finding(dataset, 'no template uses {answer} or {options}')


def _repeated(dataset: specs.Dataset) -> Iterator[Finding]:
  """Templates that say the same as an earlier one, or nearly."""
  for place, template in enumerate(dataset.templates):
    for earlier in dataset.templates[:place]:
      if earlier.targets != template.targets:
        continue
      if earlier.inputs == template.inputs:
        yield _finding(dataset, f"the same as '{earlier.name}'", template.name)
      elif _alike(earlier.inputs, template.inputs):
        yield _finding(
            dataset, f"nearly the same as '{earlier.name}'", template.name
        )


def _unmarked(dataset: specs.Dataset) -> Iterator[Finding]:
  """Templates that ask for another thing than the others, and do not say so."""
  plain = [t for t in dataset.templates if not t.inverted]
  counts = collections.Counter(
      name for t in plain for name in set(_slots(t.targets))
  )
  if dataset.choices and 'answer' in counts:
    usual = 'answer'
  elif not counts or counts.most_common(1)[0][1] * 2 <= len(plain):
    return  # No two templates agree on what is asked for.
  else:
    usual = counts.most_common(1)[0][0]
  for template in plain:
    asked = _slots(template.targets)
    if asked and usual not in asked:
      yield _finding(
          dataset,
          f'targets: {{{asked[0]}}} where the others ask for {{{usual}}}: say'
          ' `inverted: true`',
          template.name,
      )


def _alike(first: str, second: str) -> bool:
  words = [_WORDS.findall(text.lower()) for text in (first, second)]
  if words[0] == words[1]:
    # The same words: only a reader of layouts could tell them apart, unless
    # layout is all that they are.
    return any(_WORDS.search(literal) for literal in slots.split(first)[::2])
  if min(map(len, words)) < 8:  # In a short text, a word makes a difference.
    return False
  matcher = difflib.SequenceMatcher(None, words[0], words[1], autojunk=False)
  return matcher.quick_ratio() >= _ALIKE and matcher.ratio() >= _ALIKE


def _template(
    dataset: specs.Dataset, template: specs.Template
) -> Iterator[Finding]:
  for part in ('inputs', 'targets'):
    literal = _literal(getattr(template, part))
    for pattern, what in _TEXT_MISTAKES:
      match = pattern.search(literal)
      if match:
        context = literal[max(match.start() - 12, 0) : match.end() + 12]
        shown = context.replace(_SLOT, '{}')
        yield _finding(dataset, f'{part}: {what} in {shown!r}', template.name)
  if template.inverted:
    return
  yield from _named_options(dataset, template)
  shown_slots, asked = _slots(template.inputs), _slots(template.targets)
  if not asked:
    yield _finding(
        dataset, 'targets: the same for every row: no slot', template.name
    )
  if not shown_slots:
    yield _finding(
        dataset, 'inputs: the same for every row: no slot', template.name
    )
  given_away = [name for name in dict.fromkeys(asked) if name in shown_slots]
  if asked and len(given_away) == len(set(asked)):
    listed = ', '.join(f'{{{name}}}' for name in given_away)
    yield _finding(
        dataset,
        f'inputs: {listed}, which the targets ask for, is among them',
        template.name,
    )
  label = {'answer'} | ({dataset.choices.label} if dataset.choices else set())
  for name in dict.fromkeys(shown_slots):
    if dataset.choices and name in label and name not in given_away:
      yield _finding(
          dataset, f'inputs: {{{name}}} tells the right option', template.name
      )


def _named_options(
    dataset: specs.Dataset, template: specs.Template
) -> Iterator[Finding]:
  """Wording that holds some of the answers, and so favours them."""
  names = dataset.choices.names if dataset.choices else ()
  if all(name.isdigit() for name in names):
    return  # A scale is named by its ends.
  literal = ' '.join(slots.split(template.inputs)[::2])
  held = []
  # The longest first: in 'not the same' there is no hint at 'same'.
  for name in sorted(names, key=len, reverse=True):
    rest = re.sub(
        rf'(?<!\w){re.escape(name)}(?!\w)', '', literal, flags=re.IGNORECASE
    )
    if rest != literal:
      held.append(name)
    literal = rest
  if held and len(held) < len(names):
    listed = ', '.join(repr(name) for name in held)
    yield _finding(
        dataset,
        f'inputs: the wording holds {listed} and not the other answers',
        template.name,
    )


def rows(
    dataset: specs.Dataset,
    reader: templates.Rows,
    limit: int = ROWS,
    seed: int = 0,
) -> list[Finding]:
  """Returns what is wrong in some rows of a split, under every template.

  Args:
    dataset: The declaration.
    reader: The split's rows.
    limit: The most rows to look at.
    seed: Chooses them.
  """
  count = len(reader)
  order = seeding.hash_ints(seed, np.arange(count))
  chosen = np.sort(np.argsort(order, kind='stable')[:limit])
  try:
    fields = reader.fields(chosen)
  except errors.UserError as error:
    return [Finding('', '', str(error))]
  found = [
      *_empty_fields(dataset, reader.split, fields),
      *_loose_fields(dataset, reader.split, fields),
      *_same_texts(dataset, reader, chosen, seed),
  ]
  for template in dataset.templates:
    task = tasks.create(dataset, tasks.Setting(template=template.name))
    renderer = templates.Renderer(task, reader, seed=seed)
    try:
      rendered = renderer.render(chosen, np.zeros_like(chosen))
    except errors.UserError as error:
      # A label that is no option: the same under every template.
      return [*found, Finding('', '', str(error))]
    found += [
        _finding(dataset, f'{reader.split}: {message}', template.name)
        for message in _rendered(dataset, template, fields, rendered)
    ]
  return found


def _empty_fields(
    dataset: specs.Dataset, split: str, fields: Sequence[dict]
) -> Iterator[Finding]:
  for name in dataset.field_names:
    if not any(str(row.get(name, '')).strip() for row in fields):
      yield _finding(
          dataset, f"{split}: '{name}' is empty in all {len(fields)} rows"
      )


def _loose_fields(
    dataset: specs.Dataset, split: str, fields: Sequence[dict]
) -> Iterator[Finding]:
  """Fields with white space around their text, which templates would double."""
  for name in dataset.field_names:
    texts = [row[name] for row in fields if isinstance(row.get(name), str)]
    loose = sum(text != text.strip() for text in texts)
    if loose * 10 >= max(len(texts), 1):
      yield _finding(
          dataset,
          f"{split}: '{name}' begins or ends with white space in {loose} of"
          f' {len(texts)} rows: strip it in a fields function',
      )


def _same_texts(
    dataset: specs.Dataset,
    reader: templates.Rows,
    chosen: np.ndarray,
    seed: int,
) -> Iterator[Finding]:
  """Templates that render a row alike, with options or without."""
  for options in ('shown', 'hidden') if dataset.choices else ('shown',):
    seen: dict[tuple[str, str], str] = {}
    for template in dataset.templates:
      setting = tasks.Setting(template=template.name, options=options)
      renderer = templates.Renderer(
          tasks.create(dataset, setting), reader, seed=seed
      )
      try:
        texts = renderer.render_texts(chosen[:8], np.zeros_like(chosen[:8]))
      except errors.UserError:
        return  # Said with the template, below.
      other = None
      for pair in zip(*texts, strict=True):
        other = seen.setdefault(pair, template.name)
        if other != template.name:
          break
      if other not in (None, template.name):
        yield _finding(
            dataset,
            f"{reader.split}: renders as '{other}' does, options {options}",
            template.name,
        )


def _rendered(
    dataset: specs.Dataset,
    template: specs.Template,
    fields: Sequence[dict],
    rendered: Sequence[examples_lib.Example],
) -> Iterator[str]:
  """What is wrong in the rows under one template."""
  for part in ('inputs', 'targets'):
    empty = [e.row_id for e in rendered if not getattr(e, part).strip()]
    if empty:
      yield f'the {part} are empty in {_rows(empty, rendered)}'
  if tasks.ranks(dataset, template):
    other = [
        e.row_id
        for e in rendered
        if e.options is None or e.targets not in e.options
    ]
    if other:
      yield f'the targets are no option in {_rows(other, rendered)}'
    twice = [
        e.row_id
        for e in rendered
        if e.options and len(set(e.options)) < len(e.options)
    ]
    if twice:
      yield f'the same option is there twice in {_rows(twice, rendered)}'
  yield from _doubled(template, fields)
  if not template.inverted and len(rendered) >= 10:
    for name in dict.fromkeys(_slots(template.inputs)):
      if name in dataset.field_names and all(
          row[name] == e.targets
          for row, e in zip(fields, rendered, strict=True)
      ):
        yield f'inputs: {{{name}}} is the answer in all {len(rendered)} rows'


def _doubled(template: specs.Template, fields: Sequence[dict]) -> Iterator[str]:
  """Slots whose text brings the punctuation that the template adds."""
  for part in ('inputs', 'targets'):
    pieces = slots.split(getattr(template, part))
    for name, after in zip(pieces[1::2], pieces[2::2], strict=True):
      if not after.startswith(tuple(_CLOSING)) or name not in fields[0]:
        continue
      ending = sum(str(row[name]).endswith(tuple(_CLOSING)) for row in fields)
      if 2 * ending >= len(fields):
        yield (
            f"{part}: doubled punctuation: '{after[0]}' follows {{{name}}},"
            f' which ends a sentence itself in {ending} of {len(fields)} rows'
        )


def _rows(
    row_ids: Sequence[str], rendered: Sequence[examples_lib.Example]
) -> str:
  return (
      f'{len(row_ids)} of {len(rendered)} rows looked at, such as {row_ids[0]}'
  )
