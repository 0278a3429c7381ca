"""Every template of every dataset, in its group, on the same rows."""

import dataclasses

from flan_jax import errors
from flan_jax.data import tasks
from flan_jax.evaluation import plan
import numpy as np
import pytest


def _found(items):
  return {item.task.name: (item.group, item.how) for item in items}


def test_all_templates_in_their_groups(small):
  assert _found(plan.items(small.tasks, small.trained)) == {
      'mood:template_plain': ('seen', 'rank'),
      'mood:template_wrapped': ('held_out_template', 'rank'),
      'echo:template_say': ('seen', 'generate'),
      'echo:template_repeat': ('seen', 'generate'),
      'echo:template_again': ('held_out_template', 'generate'),
      'pick:template_which': ('held_out_dataset', 'rank'),
  }


def test_templates_by_selection(small):
  all_items = _found(plan.items(small.tasks, small.trained))
  trained = _found(plan.items(small.tasks, small.trained, 'trained'))
  held_out = _found(plan.items(small.tasks, small.trained, 'held_out'))
  assert {group for group, _ in trained.values()} == {'seen'}
  assert trained | held_out == all_items
  assert not trained.keys() & held_out.keys()
  with pytest.raises(errors.UserError, match="'heldout'.*Did you mean held_o"):
    plan.items(small.tasks, small.trained, 'heldout')
  with pytest.raises(
      errors.UserError, match="no template is 'trained' in pick"
  ):
    plan.items(small.tasks[2:], (), 'trained')


def test_settings_hold_for_every_template(small):
  setting = tasks.Setting(options='hidden', shots=2)
  task = tasks.create(small.datasets['mood'], setting)
  assert list(_found(plan.items([task], small.trained))) == [
      'mood:template_plain:2_shot:no_options',
      'mood:template_wrapped:2_shot:no_options',
  ]
  # What few templates train on, the others test.
  task = tasks.create(small.datasets['echo'], tasks.Setting(num_templates=1))
  groups = _found(plan.items([task], small.trained))
  assert groups['echo:template_say'][0] == 'seen'
  assert groups['echo:template_repeat'][0] == 'held_out_template'


@pytest.mark.parametrize(
    ('setting', 'name', 'how'),
    [
        ({'template': 'backwards'}, 'mood:template_backwards', 'generate'),
        ({'baseline': 'no_template'}, 'mood:no_template', 'rank'),
        (
            {'template': '0', 'evaluation': 'generate'},
            'mood:template_0:generate',
            'generate',
        ),
    ],
)
def test_what_is_asked_for_is_taken_as_it_is(small, setting, name, how):
  task = tasks.create(small.datasets['mood'], tasks.Setting(**setting))
  assert _found(plan.items([task], small.trained)) == {name: ('seen', how)}


def test_classes_read_as_the_targets_do(small):
  items = {i.template: i for i in plan.items(small.tasks, small.trained)}
  assert items['plain'].classes == ('bad', 'good')
  assert items['wrapped'].classes == ('It is bad.', 'It is good.')
  assert items['which'].classes == () == items['say'].classes
  # A row's own text in the targets: no fixed classes.
  mood = small.datasets['mood']
  own = dataclasses.replace(mood.templates[0], targets='{answer}: {text}')
  mood = dataclasses.replace(mood, templates=(own,))
  (item,) = plan.items([tasks.create(mood)], ())
  assert item.how == 'rank' and item.classes == ()


def test_rows_are_a_seeded_choice():
  all_rows = plan.subset('a', 100, None, 0)
  assert all_rows.tolist() == list(range(100))
  assert plan.subset('a', 5, 9, 0).tolist() == list(range(5))
  few = plan.subset('a', 1000, 50, 0)
  assert len(set(few.tolist())) == 50 and (np.diff(few) > 0).all()
  assert few.tolist() == plan.subset('a', 1000, 50, 0).tolist()
  assert few.tolist() != plan.subset('b', 1000, 50, 0).tolist()
  assert few.tolist() != plan.subset('a', 1000, 50, 1).tolist()
  assert set(few) <= set(plan.subset('a', 1000, 60, 0))
  # Not the head of the split: spread over it.
  assert 350 < few.mean() < 650


def test_groups_of_rows_stay_whole():
  # Groups of 1 to 4 rows, those of a group not side by side.
  groups = [f'g{i * 7 % 40}' for i in range(40)]
  groups += [f'g{i}' for i in range(40) if i % 2] + ['g3', 'g5'] * 10
  sizes = {group: groups.count(group) for group in groups}
  everything = plan.subset('a', len(groups), None, 0, groups)
  assert everything.tolist() == list(range(len(groups)))
  previous: set[int] = set()
  for limit in (1, 2, 10, 30, 60):
    rows = plan.subset('a', len(groups), limit, 0, groups).tolist()
    assert rows == sorted(set(rows))
    taken = [groups[row] for row in rows]
    assert all(taken.count(group) == sizes[group] for group in taken)
    assert len(rows) <= limit or len(set(taken)) == 1
    assert previous <= set(rows)
    previous = set(rows)
  # Not one group's rows are forgotten for want of a name.
  alone = plan.subset('a', 100, 20, 0, [''] * 100)
  assert len(alone) == 20
  assert alone.tolist() == plan.subset('a', 100, 20, 0).tolist()


def test_shots_and_baselines_are_settings_beside_the_main_one(small):
  evaluated, notes = plan.settings(
      small.tasks, (0, 2, 'fit'), ('no_template', 'name_only')
  )
  # Where the templates show nothing but options, or what is to be written,
  # nothing is left without them.
  assert sorted(note.split(':')[0] for note in notes) == (
      ['left out of name_only'] * 2 + ['left out of no_template'] * 2
  )
  found = plan.all_items(evaluated, small.trained)
  by_setting = {}
  for item in found:
    names = by_setting.setdefault(item.setting, {})
    names[item.task.name] = (item.group, item.how)
  assert list(by_setting) == [
      '',
      '2_shot',
      'fit_shot',
      'no_template',
      'name_only',
  ]
  assert by_setting[''] == _found(plan.items(small.tasks, small.trained))
  assert by_setting['2_shot']['mood:template_wrapped:2_shot'] == (
      'held_out_template',
      'rank',
  )
  assert len(by_setting['fit_shot']) == len(by_setting[''])
  # Once a dataset, and beside those templates that training saw least of.
  for trained, selection, expected in (
      (small.trained, 'all', ['held_out_template']),
      (small.trained, 'trained', ['seen']),
      (('echo',), 'all', ['held_out_dataset']),
      # Then mood has no template in the main setting to stand beside.
      (('echo',), 'trained', []),
  ):
    groups = [
        (item.task.name, item.group, item.how)
        for item in plan.all_items(evaluated, trained, selection)
        if item.setting == 'no_template'
    ]
    assert groups == [('mood:no_template', group, 'rank') for group in expected]


def test_the_first_number_of_shots_is_the_main_setting(small):
  evaluated, _ = plan.settings(small.tasks[:1], (5, 0))
  assert [task.name for task in evaluated['']] == ['mood:5_shot']
  assert [task.name for task in evaluated['0_shot']] == ['mood']
  # Names that differ in nothing but shots become one.
  twice = [
      tasks.create(small.datasets['mood'], tasks.Setting(shots=k))
      for k in (1, 2)
  ]
  evaluated, _ = plan.settings(twice, (0,))
  assert [task.name for task in evaluated['']] == ['mood']


def test_settings_of_names_are_kept_in_baselines(small):
  setting = tasks.Setting(shots=2, options='hidden', evaluation='generate')
  task = tasks.create(small.datasets['mood'], setting)
  evaluated, _ = plan.settings([task], (), ('name_only',))
  assert [t.name for t in evaluated['name_only']] == [
      'mood:name_only:no_options:generate'
  ]


def test_a_dataset_without_such_a_baseline_is_named(small):
  template = dataclasses.replace(
      small.datasets['echo'].templates[0], inputs='Say something.'
  )
  bare = dataclasses.replace(small.datasets['echo'], templates=(template,))
  named = [tasks.create(bare), tasks.create(small.datasets['mood'])]
  evaluated, (note,) = plan.settings(named, (), ('no_template',))
  assert [t.name for t in evaluated['no_template']] == ['mood:no_template']
  assert note.startswith("left out of no_template: 'echo:no_template': 'echo'")


def test_a_best_template_needs_another_one(small):
  evaluated, _ = plan.settings(small.tasks, (0, 1))
  several = plan.of_several_templates(plan.all_items(evaluated, small.trained))
  # The seen ones of echo; all other groups have one template.
  assert [item.task.name for item in several] == [
      'echo:template_say',
      'echo:template_repeat',
  ]
