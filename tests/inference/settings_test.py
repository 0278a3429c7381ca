"""What Decoding refuses, in one line that names the field."""

from flan_jax import errors
from flan_jax.inference import settings
import pytest


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('method', 'beams'),
        ('temperature', -0.1),
        ('temperature', float('nan')),
        ('temperature', float('inf')),
        ('top_k', -1),
        ('top_k', 2.5),
        ('top_p', 0.0),
        ('top_p', 1.1),
        ('top_p', '0.9'),
        ('num_beams', 0),
        ('alpha', -1.0),
        ('alpha', float('inf')),
        ('seed', -1),
        ('max_length', 0),
    ],
)
def test_out_of_range(field, value):
  with pytest.raises(errors.UserError) as caught:
    settings.Decoding(**{field: value})
  message = str(caught.value)
  assert message.startswith(f'Decoding.{field}: must be')
  assert '\n' not in message


def test_defaults_are_greedy():
  assert settings.Decoding().method == 'greedy'
