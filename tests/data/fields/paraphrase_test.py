"""Fields of the paraphrase datasets, on rows as they are."""

from flan_jax.data.fields import paraphrase
import pytest


@pytest.mark.parametrize(
    ('raw', 'expected'),
    [
        (
            '"Do people really ""enjoy"" jobs?"',
            "Do people really 'enjoy' jobs?",
        ),
        ('Is "this" one?', 'Is "this" one?'),
        ('"Quoted"', 'Quoted'),
        ('"A" and "B"', '"A" and "B"'),
        ('a ""b""', "a 'b'"),
        ('"', '"'),
        ('', ''),
    ],
)
def test_qqp_quotes(raw, expected):
  row = {'question1': raw, 'question2': 'x', 'label': 0}
  assert paraphrase.qqp(row) == {**row, 'question1': expected}


@pytest.mark.parametrize(
    ('score', 'label'),
    [
        (0.0, 0),
        (0.4000000059604645, 0),
        (2.5, 2),
        (3.5, 4),
        (3.799999952316284, 4),
        (5.0, 5),
        (5, 5),
        (-1.0, -1),  # Hidden.
    ],
)
def test_stsb_scores_are_whole_numbers(score, label):
  row = {'sentence1': 'A', 'sentence2': 'B', 'label': score, 'idx': 3}
  found = paraphrase.stsb(row)
  scores = found.pop('scores')
  assert found == {'sentence1': 'A', 'sentence2': 'B', 'label': label}
  assert scores[0] == str(label) and float(scores[-1]) == pytest.approx(score)
  assert isinstance(found['label'], int)
