"""Every mistake that a check knows is found; good declarations pass."""

import dataclasses

from flan_jax.data import catalogue as catalogue_lib
from flan_jax.data import checks
from flan_jax.data import rows as rows_lib
from flan_jax.data import specs
import numpy as np
import pytest

_PLAIN = specs.Template(
    name='plain', inputs='{text}\n\n{options}', targets='{answer}'
)
_MOOD = specs.Dataset(
    name='mood',
    cluster='sentiment',
    source=specs.Source(kind='generated', where='nowhere:rows'),
    splits={'train': 'train'},
    fields={'text': 'text', 'note': 'note'},
    metrics=('accuracy',),
    choices=specs.Choices(label='label', names=('bad', 'good')),
    templates=(
        _PLAIN,
        specs.Template(
            name='other', inputs='Mood of {text} ({note})?', targets='{answer}'
        ),
    ),
)


def _with(*templates, **changes):
  extra = tuple(
      specs.Template(**{'name': f't{i}', 'targets': '{answer}', **template})
      for i, template in enumerate(templates)
  )
  return dataclasses.replace(
      _MOOD, templates=_MOOD.templates + extra, **changes
  )


def _messages(findings):
  return [
      ': '.join(filter(None, (found.template, found.message)))
      for found in findings
  ]


def test_a_good_declaration_has_no_findings():
  assert checks.declaration(_MOOD) == []


@pytest.mark.parametrize(
    ('template', 'message'),
    [
        (
            {'inputs': '{text}\n\n{options}'},
            "t0: the same as 'plain'",
        ),
        (
            {'inputs': 'mood of: {text} {note}'},
            "t0: nearly the same as 'other'",
        ),
        ({'inputs': 'So  what, {text}'}, "t0: inputs: two spaces in 'So  what"),
        (
            {'inputs': 'Say, \n{text}'},
            't0: inputs: a space at the end of a line',
        ),
        ({'inputs': 'Say {text} .'}, 't0: inputs: a space before punctuation'),
        ({'inputs': 'Say {text}??'}, 't0: inputs: doubled punctuation'),
        ({'inputs': 'Say {text}..'}, 't0: inputs: doubled punctuation'),
        (
            {'inputs': 'Say {text}', 'targets': '{answer},.'},
            't0: targets: doubl',
        ),
        (
            {'inputs': 'Why is {text} {answer}?'},
            't0: inputs: {answer}, which the targets ask for',
        ),
        (
            {
                'inputs': '{note}: what is {answer}?',
                'targets': 'As {text} says',
            },
            't0: inputs: {answer} tells the right option',
        ),
        (
            {'inputs': 'Copy {text}', 'targets': '{text}'},
            't0: inputs: {text}, which the targets ask for',
        ),
        (
            {'inputs': '{text}', 'targets': 'Yes'},
            't0: targets: the same for ever',
        ),
        ({'inputs': 'Well?'}, 't0: inputs: the same for every row'),
        (
            {'inputs': 'Is {text} a good one?'},
            "t0: inputs: the wording holds 'good' and not the other answers",
        ),
        (
            {'inputs': 'Say {note}', 'targets': '{text}'},
            't0: targets: {text} where the others ask for {answer}',
        ),
    ],
)
def test_a_template_with_a_mistake(template, message):
  found = _messages(checks.declaration(_with(template)))
  assert any(each.startswith(message) for each in found), found
  assert all(each.startswith('t0: ') for each in found), found


@pytest.mark.parametrize(
    'template',
    [
        {'inputs': '{text}... And so on, e.g., this: {options}'},
        {'inputs': '    {text}\n      Indented.\n{options}'},
        {'inputs': 'Is {text} 3.5 or .5?'},
        {'inputs': 'Write {answer}.', 'targets': '{text}', 'inverted': True},
        {'inputs': 'Reply to {text}', 'targets': '{text}: {answer}'},
        {'inputs': 'Write one.', 'targets': '{text}', 'inverted': True},
        {'inputs': 'Is {text} good or bad?'},
        {'inputs': 'Is it for the goodness of {text}?'},
    ],
)
def test_what_is_no_mistake(template):
  assert checks.declaration(_with(template)) == []


def test_templates_that_differ_in_a_word_of_many_are_alike():
  words = 'Please read the review below with care and decide what its mood is'
  found = _messages(
      checks.declaration(
          _with(
              {'inputs': f'{words}: {{text}}'},
              {'inputs': f'{words} now: {{text}}'},
          )
      )
  )
  assert found == ["t1: nearly the same as 't0'"]


def test_an_answer_within_another_is_no_hint():
  choices = specs.Choices(label='label', names=('same', 'not the same'))
  dataset = _with(
      {'inputs': 'Same, or not the same? {text}'},
      {'inputs': 'Is {text} not the same?'},
      choices=choices,
  )
  assert _messages(checks.declaration(dataset)) == [
      "t1: inputs: the wording holds 'not the same' and not the other answers"
  ]


def test_generation_templates_agree_on_what_is_asked_for():
  texts = ('Sum up {text}', 'What is {text} about?', 'Tell me {note}')
  targets = ('{note}', '{note}', '{text}')
  dataset = dataclasses.replace(
      _MOOD,
      choices=None,
      templates=tuple(
          specs.Template(name=f't{i}', inputs=text, targets=target)
          for i, (text, target) in enumerate(zip(texts, targets, strict=True))
      ),
  )
  assert _messages(checks.declaration(dataset)) == [
      't2: targets: {text} where the others ask for {note}: say `inverted:'
      ' true`'
  ]


def test_fields_that_nothing_uses():
  extra = dict(_MOOD.fields, spare='spare', label='label', refs='refs')
  dataset = dataclasses.replace(
      _MOOD, fields=extra, field_names=tuple(extra), references='refs'
  )
  assert _messages(checks.declaration(dataset)) == [
      "no template uses the field 'spare'"
  ]


class _Rows:

  def __init__(self, rows, split='train'):
    self.split, self._rows = split, rows

  def __len__(self):
    return len(self._rows)

  def fields(self, indices):
    return [dict(self._rows[i]) for i in np.asarray(indices)]

  def row_ids(self, indices):
    return [f'{self.split}:{i}' for i in np.asarray(indices)]


def _row(i, **changes):
  return {'text': f'text {i}', 'note': 'n', 'label': str(i % 2), **changes}


def test_good_rows_have_no_findings():
  assert checks.rows(_MOOD, _Rows([_row(i) for i in range(200)])) == []


def test_a_label_that_is_no_option():
  (found,) = checks.rows(_MOOD, _Rows([_row(0), _row(1, label='7')]))
  assert "row train:1 of 'mood'" in found.message
  assert "label is '7'" in found.message


def test_empty_fields_and_targets():
  rows = _Rows([_row(i, note='', text='' if i == 3 else 'x') for i in range(8)])
  dataset = dataclasses.replace(
      _MOOD,
      choices=None,
      templates=(
          specs.Template(name='a', inputs='{note}', targets='Say {text}'),
          specs.Template(name='b', inputs='Say {note}', targets='{text}'),
      ),
  )
  assert _messages(checks.rows(dataset, rows)) == [
      "train: 'note' is empty in all 8 rows",
      (
          'a: train: the inputs are empty in 8 of 8 rows looked at, such as'
          ' train:0'
      ),
      (
          'b: train: the targets are empty in 1 of 8 rows looked at, such as'
          ' train:3'
      ),
  ]


def test_options_that_are_there_twice():
  dataset = dataclasses.replace(
      _MOOD, choices=specs.Choices(label='label', fields=('text', 'note'))
  )
  rows = _Rows([_row(0), _row(1, text='n')])
  found = _messages(checks.rows(dataset, rows))
  assert found[0] == (
      'plain: train: the same option is there twice in 1 of 2 rows looked at,'
      ' such as train:1'
  )


def test_a_field_that_is_the_answer():
  rows = _Rows([_row(i, note=('bad', 'good')[i % 2]) for i in range(12)])
  assert _messages(checks.rows(_MOOD, rows)) == [
      'other: train: inputs: {note} is the answer in all 12 rows'
  ]


def test_punctuation_that_rows_bring_along():
  dataset = dataclasses.replace(
      _MOOD,
      templates=(dataclasses.replace(_PLAIN, inputs='{text}. Good or bad?'),),
  )
  ending = _Rows([_row(i, text='It was fine.') for i in range(6)])
  (found,) = _messages(checks.rows(dataset, ending))
  assert "'.' follows {text}, which ends a sentence itself in 6 of 6" in found
  assert checks.rows(dataset, _Rows([_row(i) for i in range(6)])) == []


def test_white_space_that_rows_bring_along():
  rows = _Rows([_row(i, text=f'line {i}\n') for i in range(20)])
  assert _messages(checks.rows(_MOOD, rows)) == [
      "train: 'text' begins or ends with white space in 20 of 20 rows:"
      ' strip it in a fields function'
  ]


def test_templates_that_render_alike():
  dataset = _with({'inputs': '{options}\n\n{text}'})
  found = _messages(checks.rows(dataset, _Rows([_row(i) for i in range(9)])))
  assert found == ["t0: train: renders as 'plain' does, options hidden"]


def test_findings_read_as_file_template_what():
  finding = checks.Finding('rte.yaml', 'plain', 'is wrong')
  assert str(finding) == 'rte.yaml: plain: is wrong'
  assert str(checks.Finding('', '', 'rte.yaml:3: bad')) == 'rte.yaml:3: bad'


def test_everything_that_comes_along_is_clean(tmp_path):
  catalogue = catalogue_lib.Catalogue()
  store = rows_lib.RowStore(tmp_path)
  findings = []
  for name in catalogue.dataset_names():
    dataset = catalogue.dataset(name)
    findings += checks.declaration(dataset)
    if dataset.source.kind == 'generated':
      findings += checks.rows(dataset, store.open(dataset, 'test'))
  assert not [str(finding) for finding in findings]
