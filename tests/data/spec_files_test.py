"""Declarations: what is read, and every mistake with its file, line and key."""

import dataclasses
import re

from flan_jax import errors
from flan_jax import paths
from flan_jax.data import spec_files
from flan_jax.data import specs
import pytest

_RTE = """
# Does the first text entail the second?
version: 2
description: Entailment.
cluster: natural_language_inference
source: {tfds: "super_glue/rte:1.0.2"}
licence: research
splits: {train: "train[:-200]", validation: "train[-200:]", test: validation}
limits: {train: 30000}
fields: {premise: premise, hypothesis: pair.1.text}
choices: {label: label, names: [yes, no]}
metrics: [accuracy]
templates:
- name: going_by_that
  inputs: |-
    {premise}

    Going by that, is it true that {hypothesis}

    {options}
  targets: "{answer}"
- name: write_pair
  inverted: true
  held_out: true
  inputs: Write a short text, and a claim.
  targets: |-
    {premise}
    Claim: {{{hypothesis}}}
"""

_MIXTURE = """
version: 1
members:
- rte
- {name: anli, weight: 0.5}
- {cluster: sentiment, collection: mini}
held_out: [rte, {cluster: sentiment}]
cap: 30000
max_rate: 3000
"""


def test_a_dataset_is_read(declare):
  path = declare('glue/rte.yaml', _RTE)
  assert spec_files.load(path) == specs.Dataset(
      name='rte',
      path=path,
      collection='glue',
      cluster='natural_language_inference',
      version=2,
      description='Entailment.',
      licence='research',
      source=specs.Source(kind='tfds', where='super_glue/rte:1.0.2'),
      splits={
          'train': 'train[:-200]',
          'validation': 'train[-200:]',
          'test': 'validation',
      },
      limits={'train': 30000},
      fields={'premise': 'premise', 'hypothesis': 'pair.1.text'},
      field_names=('premise', 'hypothesis'),
      # YAML 1.1 takes a bare yes for true; here it is what is written.
      choices=specs.Choices(label='label', names=('yes', 'no')),
      metrics=('accuracy',),
      templates=(
          specs.Template(
              name='going_by_that',
              inputs=(
                  '{premise}\n\nGoing by that, is it true that'
                  ' {hypothesis}\n\n{options}'
              ),
              targets='{answer}',
          ),
          specs.Template(
              name='write_pair',
              inputs='Write a short text, and a claim.',
              targets='{premise}\nClaim: {{{hypothesis}}}',
              inverted=True,
              held_out=True,
          ),
      ),
  )


def test_a_mixture_is_read(declare):
  path = declare('mine.yaml', _MIXTURE)
  assert spec_files.load(path) == specs.MixtureSpec(
      name='mine',
      path=path,
      members=(
          specs.Member(name='rte'),
          specs.Member(name='anli', weight=0.5),
          specs.Member(cluster='sentiment', collection='mini'),
      ),
      held_out=(specs.Member(name='rte'), specs.Member(cluster='sentiment')),
      cap=30000,
      max_rate=3000,
  )


def test_the_row_paths_hold_all_that_rendering_reads(declare):
  dataset = spec_files.load(declare('rte.yaml', _RTE))
  assert dataset.row_paths == {
      'premise': 'premise',
      'hypothesis': 'pair.1.text',
      'label': 'label',
  }
  dataset = dataclasses.replace(
      dataset,
      choices=specs.Choices(label='premise', list='endings.text'),
      references='golds',
  )
  assert dataset.row_paths == {
      'premise': 'premise',
      'hypothesis': 'pair.1.text',
      'endings.text': 'endings.text',
      'golds': 'golds',
  }


def test_a_function_lists_its_fields(declare):
  text = _RTE.replace(
      'fields: {premise: premise, hypothesis: pair.1.text}',
      'fields: my_package.rows:rte\nfield_names: [premise, hypothesis, label]',
  )
  dataset = spec_files.load(declare('rte.yaml', text))
  assert dataset.fields == 'my_package.rows:rte'
  assert dataset.field_names == ('premise', 'hypothesis', 'label')
  assert dataset.row_paths == {}


# What is replaced in _RTE, by what, and the error after the file's name.
_MISTAKES = [
    ('version: 2', 'version: [', ':4: not valid YAML: '),
    (
        'version: 2',
        'version: two',
        ':2: version: must be a whole number from 1',
    ),
    ('version: 2', 'version: 0', ':2: version: must be a whole number from 1'),
    ('version: 2\n', '', ":2: the key 'version' is missing"),
    (
        'licence:',
        'license:',
        ':6: license: unknown key. Did you mean licence',
    ),
    ('licence:', 'cluster:', ':6: cluster: is here twice (first on line 4)'),
    ('cluster: nat', 'cluster: Nat', ":4: cluster: 'Natural_language_inf"),
    ('{tfds:', '{tdfs:', ':5: source: must name one source, as in'),
    ('rte:1.0.2"}', 'rte", csv: x}', ':5: source: must name one source'),
    (
        'rte:1.0.2"}',
        'rte", columns: x}',
        ':5: source.columns: unknown key. Known here: tfds',
    ),
    ('"super_glue/rte:1.0.2"', '""', ':5: source.tfds: must say where'),
    ('{tfds: "super_glue/rte:1.0.2"}', 'rte', ':5: source: must be a mapping'),
    (
        'test: validation}',
        'tset: validation}',
        ":7: splits.tset: unknown split 'tset'. Did you mean test?",
    ),
    (
        '{train: "train[:-200]", validation: "train[-200:]", test: validation}',
        '{}',
        ':7: splits: names no split',
    ),
    (
        'limits: {train:',
        'limits: {tran:',
        ":8: limits.tran: unknown split 'tran'. Did you mean train?",
    ),
    ('30000', '-1', ':8: limits.train: must be a whole number from 1'),
    ('{premise: pre', '{pre-mise: pre', ":9: fields.pre-mise: 'pre-mise' can"),
    ('{premise: pre', '{options: pre', ":9: fields.options: 'options' is made"),
    (
        '{premise: premise, hypothesis: pair.1.text}',
        'rows',
        ":9: fields: 'rows' is neither a mapping",
    ),
    (
        '{premise: premise, hypothesis: pair.1.text}',
        'a:b',
        ':9: fields: a function does not tell its fields',
    ),
    (
        '{premise: premise, hypothesis: pair.1.text}',
        'a:b\nfield_names: [premise, hypothesis]',
        ":11: choices.label: unknown field 'label'",
    ),
    (
        'metrics:',
        'field_names: [premise]\nmetrics:',
        ':11: field_names: is for a function',
    ),
    ('label: label', 'labels: label', ':10: choices.labels: unknown key. Did'),
    ('label: label', 'label: ""', ':10: choices.label: must name the field'),
    ('[yes, no]', '[yes]', ':10: choices: one answer is no choice'),
    (
        '[yes, no]',
        '[yes, yes]',
        ':10: choices.names: has the same answer twice',
    ),
    ('[yes, no]', '[yes, " "]', ':10: choices.names: has an empty answer'),
    ('[yes, no]', 'yes', ':10: choices.names: must be a list'),
    ('[yes, no]', '[yes, [no]]', ':10: choices.names[1]: must be a text'),
    (', names: [yes, no]', '', ':10: choices: needs exactly one of names'),
    (
        'names: [yes, no]',
        'names: [yes, no], list: x',
        ':10: choices: needs exactly one of names',
    ),
    (
        '[accuracy]',
        '[acuracy]',
        ":11: metrics[0]: unknown metric 'acuracy'. Did you mean accuracy?",
    ),
    ('[accuracy]', '[]', ':11: metrics: names no metric'),
    ('- name: going_by_that', '- nam: x', ':13: templates[0].nam: unknown key'),
    ('going_by_that', '"7"', ":13: templates[0].name: '7' cannot be a templ"),
    ('going_by_that', 'Going', ":13: templates[0].name: 'Going' cannot be"),
    (
        'going_by_that',
        'write_pair',
        ":21: templates[1].name: two templates are called 'write_pair'",
    ),
    (
        'that {hypothesis}',
        'that {hypotesis}',
        (
            ":17: templates[0].inputs: template 'going_by_that': unknown field"
            " 'hypotesis'. Did you mean hypothesis"
        ),
    ),
    (
        '  targets: "{answer}"\n',
        '',
        ":13: templates[0]: the key 'targets' is missing",
    ),
    (
        '"{answer}"',
        '"  "',
        ":20: templates[0].targets: template 'going_by_that' has nothing here",
    ),
    ('"{answer}"', '"{x}"', ":20: templates[0].targets: template 'going_by"),
    (
        '{{{hypothesis}}}',
        '{{{hypothesis}}',
        ":27: templates[1].targets: template 'write_pair': a lone '}'",
    ),
    ('inverted: true', 'inverted: yes', ':22: templates[1].inverted: must be'),
    (
        '  inverted: true\n  held_out: true\n',
        '  held_out: true\n  held_out: true\n',
        ':23: templates[1].held_out: is here twice (first on line 22)',
    ),
    (
        'choices: {label: label, names: [yes, no]}\n',
        '',
        ":18: templates[0].inputs: template 'going_by_that': {options} needs",
    ),
]


@pytest.mark.parametrize(('old', 'new', 'message'), _MISTAKES)
def test_a_mistake_names_file_line_and_key(declare, old, new, message):
  assert _RTE.count(old) >= 1
  path = declare('rte.yaml', _RTE.replace(old, new, 1))
  with pytest.raises(errors.UserError) as caught:
    spec_files.load(path)
  found = str(caught.value)
  assert found.startswith(f'{path}{message}')
  assert '\n' not in found


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('version: 1\n', '', ":1: the key 'version' is missing"),
        ('cap: 30000', 'cap: 0', ':7: cap: must be a whole number from 1'),
        ('0.5', 'half', ':4: members[1].weight: must be a number above 0'),
        ('0.5', 'nan', ':4: members[1].weight: must be a number above 0'),
        ('0.5', 'inf', ':4: members[1].weight: must be a number above 0'),
        ('name: anli, ', '', ':4: members[1]: must have a name, or else'),
        (
            'name: anli',
            'name: anli, cluster: x',
            ':4: members[1]: must have a name, or else',
        ),
        (
            'held_out:',
            'heldout:',
            ':6: heldout: unknown key. Did you mean held',
        ),
        (
            '{cluster: sentiment}]',
            '{name: x, weight: 2}]',
            ':6: held_out[1].weight: unknown key.',
        ),
    ],
)
def test_a_mistake_in_a_mixture(declare, old, new, message):
  assert old in _MIXTURE
  path = declare('mine.yaml', _MIXTURE.replace(old, new, 1))
  with pytest.raises(errors.UserError) as caught:
    spec_files.load(path)
  assert str(caught.value).startswith(f'{path}{message}')


def test_no_members(declare):
  path = declare('mine.yaml', 'version: 1\nmembers: []\n')
  with pytest.raises(errors.UserError, match='mine.yaml:2: members: names no'):
    spec_files.load(path)


def test_files_that_cannot_be_read(tmp_path, declare):
  with pytest.raises(errors.UserError, match='not_there.yaml: No such file'):
    spec_files.load(tmp_path / 'not_there.yaml')
  with pytest.raises(errors.UserError, match='empty.yaml: is empty'):
    spec_files.load(declare('empty.yaml', '# nothing\n'))
  with pytest.raises(errors.UserError, match='list.yaml:1: must be a mapping'):
    spec_files.load(declare('list.yaml', '- a\n'))
  with pytest.raises(errors.UserError, match='two.yaml:2: not valid YAML'):
    spec_files.load(declare('two.yaml', 'a: b\n--- \nc: d\n'))
  latin = tmp_path / 'latin.yaml'
  latin.write_bytes('version: é\n'.encode('latin-1'))
  with pytest.raises(errors.UserError, match='latin.yaml: byte 9 is not UTF-8'):
    spec_files.load(latin)
  with pytest.raises(errors.UserError, match="name 'My-Set' becomes"):
    spec_files.load(declare('My-Set.yaml', _RTE))


def test_the_file_to_copy_loads():
  blank = spec_files.load(paths.mixtures_dir() / spec_files.BLANK)
  assert blank.name == 'blank'
  assert blank.choices is not None and blank.references
  assert any(t.held_out for t in blank.templates)
  assert any(t.inverted for t in blank.templates)


def test_the_file_to_copy_explains_every_key():
  text = (paths.mixtures_dir() / spec_files.BLANK).read_text(encoding='utf-8')
  keys = {field.name for field in dataclasses.fields(specs.Dataset)}
  keys -= {'name', 'path', 'collection'}  # From where the file lies.
  keys |= {*specs.SOURCES, *specs.SPLITS, *specs.METRICS}
  keys |= {field.name for field in dataclasses.fields(specs.Choices)}
  keys |= {field.name for field in dataclasses.fields(specs.Template)}
  assert [key for key in sorted(keys) if key not in text] == []


def test_the_collection_is_the_first_folder_under_mixtures():
  mixtures = paths.mixtures_dir()
  path = next((mixtures / 'flan2021').rglob('rte.yaml'))
  assert spec_files.load(path).collection == 'flan2021'
  assert spec_files.load(path, collection='mine').collection == 'mine'


_EXTRA = """
subcluster: entailment
family: glue
keep: my.module:wanted
constants: {who: a judge}
group_by: premise
alternatives:
- source: {parquet: rte, obtain: the export}
  splits: {train: part}
  fields: {premise: text, hypothesis: claim}
  keep: my.module:other
  note: The same.
- source: {tsv: rte.tsv}
sample:
  premise: "12"
  pair: [{text: a b}, {text: "null"}]
  label: 1
  score: 2.5
  flag: true
  nothing: null
  plain: yes it is
"""


def test_what_a_dataset_may_say(declare):
  found = spec_files.load(declare('glue/rte.yaml', _RTE.strip() + _EXTRA))
  assert (found.subcluster, found.family) == ('entailment', 'glue')
  assert (found.keep, found.group_by) == ('my.module:wanted', 'premise')
  assert found.constants == {'who': 'a judge'}
  assert 'who' in found.slot_names and 'who' not in found.field_names
  assert found.alternatives == (
      specs.Alternative(
          source=specs.Source(
              kind='parquet', where='rte', options={'obtain': 'the export'}
          ),
          splits={'train': 'part'},
          fields={'premise': 'text', 'hypothesis': 'claim'},
          keep='my.module:other',
          note='The same.',
      ),
      specs.Alternative(source=specs.Source(kind='tsv', where='rte.tsv')),
  )
  # Quotes make a text; numbers, true and null are what JSON has.
  assert found.sample == {
      'premise': '12',
      'pair': [{'text': 'a b'}, {'text': 'null'}],
      'label': 1,
      'score': 2.5,
      'flag': True,
      'nothing': None,
      'plain': 'yes it is',
  }


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('{who: a judge}', '{premise: x}', "constants.premise: 'premise' is a"),
        ('{who: a judge}', '{answer: x}', "constants.answer: 'answer' cannot"),
        ('{who: a judge}', '{who: ""}', 'constants.who: is empty'),
        ('family: glue', 'family: My Glue', "family: 'My Glue' cannot be"),
        ('my.module:wanted', 'my.module', "keep: 'my.module' is no 'module"),
        ('hypothesis: claim', 'claim: claim', 'must give the same fields'),
        ('{train: part}', '{dev: part}', "splits.dev: unknown split 'dev'"),
        ('obtain: the', 'obtained: the', 'unknown key. Did you mean obtain'),
        ('group_by: premise', 'group_by: 3', None),
        ('  premise: "12"', '- premise', 'not valid YAML'),
    ],
)
def test_mistakes_in_what_it_may_say(declare, old, new, message):
  text = _RTE.strip() + _EXTRA
  assert old in text
  path = declare('rte.yaml', text.replace(old, new))
  if message is None:
    # A path into the row need not be a field.
    assert spec_files.load(path).group_by == '3'
    return
  with pytest.raises(errors.UserError, match=re.escape(message)):
    spec_files.load(path)


def test_templates_of_another_dataset(declare):
  first = spec_files.load(declare('rte.yaml', _RTE))
  start = _RTE[: _RTE.index('templates:')]
  path = declare('cb.yaml', start + 'templates: rte\n')
  assert spec_files.load(path).templates == first.templates
  for name in ('cb', 'no_such'):
    path = declare('cb.yaml', start + f'templates: {name}\n')
    with pytest.raises(errors.UserError, match=f"templates: '{name}' must be"):
      spec_files.load(path)
  declare('again.yaml', start + 'templates: rte\n')
  path = declare('cb.yaml', start + 'templates: again\n')
  with pytest.raises(errors.UserError, match='has no list of templates itself'):
    spec_files.load(path)
