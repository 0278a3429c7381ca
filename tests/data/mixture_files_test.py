"""What mixtures' files may say, and what is wrong in them."""

import re

from flan_jax import errors
from flan_jax import paths
from flan_jax.data import catalogue
from flan_jax.data import mixture_files
from flan_jax.data import spec_files
from flan_jax.data import specs
import pytest

_WHOLE = """
version: 3
description: All keys.
members:
- rte
- [anli_r1, "cb:no_options"]
- {subcluster: trees, collection: woods, weight: 2}
held_out:
- {one_of: [sst2, imdb_reviews], turn: 3}
- {cluster: commonsense}
without: [wnli]
cap: 30000
max_rate: 3000
rates: {temperature: 2.5}
sample: {lines: 2, per_line: 3, datasets: 4, seed: 5}
leave_out: {overlaps: {a: [b, c]}}
"""


def test_all_keys(declare):
  path = declare('whole.yaml', _WHOLE)
  assert spec_files.load(path) == specs.MixtureSpec(
      name='whole',
      path=path,
      version=3,
      description='All keys.',
      members=(
          specs.Member(name='rte'),
          specs.Member(names=('anli_r1', 'cb:no_options')),
          specs.Member(subcluster='trees', collection='woods', weight=2),
      ),
      held_out=(
          specs.Member(names=('sst2', 'imdb_reviews'), turn=3),
          specs.Member(cluster='commonsense'),
      ),
      without=(specs.Member(name='wnli'),),
      cap=30000,
      max_rate=3000,
      rates=specs.Rates(kind='temperature', temperature=2.5),
      sample=specs.Sample(lines=2, per_line=3, datasets=4, seed=5),
      leave_out=specs.LeaveOut(overlaps={'a': ('b', 'c')}),
  )


def test_the_file_to_copy_has_all_keys():
  path = paths.mixtures_dir() / mixture_files.BLANK
  blank = spec_files.load(path)
  assert isinstance(blank, specs.MixtureSpec)
  text = path.read_text(encoding='utf-8')
  for key in (
      *('members', 'held_out', 'without', 'cap', 'max_rate', 'rates', 'sample'),
      *('leave_out', 'overlaps', 'series', 'one_of', 'turn', 'weight'),
      *('cluster', 'subcluster', 'collection', 'lines', 'per_line', 'datasets'),
      *('seed', 'proportional', 'temperature', 'equal', 'explicit', 'version'),
  ):
    assert re.search(rf'\b{key}\b', text), key
  assert not {'blank', 'BLANK_MIXTURE'} & set(
      catalogue.Catalogue().mixture_names()
  )


_SERIES = """
version: 1
series: {name: "steps_{n}_up", n: [1, 3]}
members: [mini_calendar, mini_capitals, mini_elements]
sample: {datasets: "{n}"}
description: The first {n}.
"""


def test_a_series_is_several_mixtures(declare, tmp_path):
  path = declare('steps.yaml', _SERIES)
  assert mixture_files.names(path) == ['steps_1_up', 'steps_3_up']
  found = catalogue.Catalogue([tmp_path])
  names = {name for name in found.mixture_names() if name.startswith('steps')}
  assert names == {'steps_1_up', 'steps_3_up'}
  spec = found.mixture('steps_3_up')
  assert (spec.name, spec.series) == ('steps_3_up', 'steps_{n}_up')
  assert (spec.description, spec.sample.datasets) == ('The first 3.', 3)
  assert found.mixture('steps_1_up').sample.datasets == 1


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('steps_{n}_up', 'steps', ":2: series.name: must hold {n}, as in 'my_"),
        (
            'steps_{n}_up',
            'Steps {n}',
            ":2: series.name: 'Steps {n}': names are",
        ),
        ('[1, 3]', '[]', ':2: series.n: names no number'),
        ('[1, 3]', '[1, 1]', ':2: series.n: has a number twice'),
        ('[1, 3]', '[one]', ':2: series.n[0]: must be a whole number from 0'),
    ],
)
def test_a_mistake_in_a_series(declare, tmp_path, old, new, message):
  declare('steps.yaml', _SERIES.replace(old, new))
  found = catalogue.Catalogue([tmp_path])  # Broken files do not stop others.
  with pytest.raises(errors.UserError, match=re.escape(f'.yaml{message}')):
    found.mixture('steps')


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        (
            'rates: {temperature: 2.5}',
            'rates: sideways',
            ":13: rates: 'sideways' is none of proportional, equal, explicit",
        ),
        (
            '{temperature: 2.5}',
            '{temperature: 0}',
            ":13: rates.temperature: must be a number above 0, not '0'",
        ),
        (
            'rates: {temperature: 2.5}',
            'rates: equal',
            ':12: max_rate: has no meaning with `rates: equal`',
        ),
        (
            'max_rate: 3000\nrates: {temperature: 2.5}',
            'rates: explicit',
            ':4: members[0]: needs a weight, which is its rate',
        ),
        (
            '{lines: 2,',
            '{lines: 4,',
            ':14: sample.lines: there are only 3 lines',
        ),
        (
            '{lines: 2, per_line: 3, datasets: 4, seed: 5}',
            '{seed: 5}',
            ':14: sample: needs a number of lines, of datasets, or per_line',
        ),
        (
            '[anli_r1, "cb:no_options"]',
            '[]',
            ':5: members[1]: names no dataset',
        ),
        (
            'one_of: [sst2, imdb_reviews]',
            'one_of: []',
            ':8: held_out[0].one_of: names no dataset',
        ),
        (
            '{one_of: [sst2, imdb_reviews], turn: 3}',
            '{one_of: [sst2]}',
            ":8: held_out[0]: the key 'turn' is missing",
        ),
        ('overlaps', 'overlap', ':15: leave_out.overlap: unknown key.'),
    ],
)
def test_a_mistake_in_a_mixture(declare, old, new, message):
  assert old in _WHOLE
  path = declare('whole.yaml', _WHOLE.replace(old, new))
  with pytest.raises(errors.UserError, match=re.escape(f'{path}{message}')):
    spec_files.load(path)
