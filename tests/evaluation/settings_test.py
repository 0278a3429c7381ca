"""What may be asked of `flan-jax eval`."""

from flan_jax import errors
from flan_jax.evaluation import settings
import pytest


def _eval(**given):
  return settings.Eval(output_dir='out', **given)


def test_one_checkpoint_is_the_tuned_model():
  assert _eval(checkpoint_path='runs/a').checkpoints == {'tuned': 'runs/a'}
  assert _eval(checkpoint_path='big=runs/a').checkpoints == {'big': 'runs/a'}
  assert _eval(checkpoint_paths=['runs/a']).checkpoints == {'tuned': 'runs/a'}


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (['runs/a', 'runs/b'], {'a': 'runs/a', 'b': 'runs/b'}),
        # As much of the path as tells them apart.
        (
            ['a/checkpoint_5', 'b/checkpoint_5/', 'old=c'],
            {
                'a/checkpoint_5': 'a/checkpoint_5',
                'b/checkpoint_5': 'b/checkpoint_5/',
                'old': 'c',
            },
        ),
        (('x=runs/a', 'y=runs/a'), {'x': 'runs/a', 'y': 'runs/a'}),
        ({'x': 'runs/a', 'y': 'b'}, {'x': 'runs/a', 'y': 'b'}),
        # '=' in a folder's name is none of a label.
        (
            ['runs/lr=1', 'runs/lr=2'],
            {'lr=1': 'runs/lr=1', 'lr=2': 'runs/lr=2'},
        ),
    ],
)
def test_several_checkpoints_have_labels(given, expected):
  assert _eval(checkpoint_paths=given).checkpoints == expected


def test_a_path_that_exists_is_no_label(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'lr=1').mkdir()
  assert _eval(checkpoint_path='lr=1').checkpoints == {'tuned': 'lr=1'}


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({}, 'CHECKPOINT_PATH: is required'),
        (
            {'checkpoint_path': 'a', 'checkpoint_paths': ['b']},
            'CHECKPOINT_PATHS: CHECKPOINT_PATH is set as well',
        ),
        ({'checkpoint_paths': []}, 'must not be empty'),
        ({'checkpoint_paths': 'a'}, r"must be like \['runs/a'"),
        ({'checkpoint_paths': ['a', 5]}, 'CHECKPOINT_PATHS: must be a string'),
        ({'checkpoint_paths': ['a', 'a']}, "'a' is there twice"),
        ({'checkpoint_paths': ['x=a', 'x=b']}, "'x' is there twice"),
        ({'checkpoint_paths': ['untuned=a', 'b']}, "'untuned' has a meaning"),
        ({'checkpoint_path': 'majority=a'}, "'majority' has a meaning"),
        ({'checkpoint_paths': ['tuned=a', 'b']}, "'tuned' has a meaning"),
        ({'shots': (0, -1)}, r"SHOTS: must be whole numbers or 'fit'.*-1"),
        ({'shots': (1, 1)}, 'SHOTS: .* twice'),
        ({'shots': True}, 'SHOTS: must be whole numbers'),
        ({'baselines': 'no_templates'}, 'BASELINES: .* Did you mean no_templ'),
        ({'baselines': ('name_only', 'name_only')}, 'BASELINES: .* twice'),
        ({'best_template': 1}, 'BEST_TEMPLATE: must be'),
        ({'best_template_examples': 0}, 'BEST_TEMPLATE_EXAMPLES: must be'),
    ],
)
def test_mistakes_are_named(given, message):
  if given and 'checkpoint_paths' not in given:
    given = {'checkpoint_path': 'a', **given}
  with pytest.raises(errors.UserError, match=message):
    _eval(**given)
