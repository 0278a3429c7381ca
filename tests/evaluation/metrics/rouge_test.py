"""ROUGE against the rouge_score package called directly, and by hand."""

from flan_jax.evaluation.metrics import rouge
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest
from rouge_score import rouge_scorer

_SENTENCES = st.lists(
    st.sampled_from(
        'the cat sat running runs on mats. Dogs ran! why? 3 words'.split()
    ),
    min_size=1,
    max_size=12,
).map(' '.join)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(_SENTENCES, _SENTENCES), min_size=1, max_size=4))
def test_one_reference_each_is_the_package(pairs):
  names = ['rouge1', 'rouge2', 'rougeL', 'rougeLsum']
  scorer = rouge_scorer.RougeScorer(names, use_stemmer=True)
  total = dict.fromkeys(names, 0.0)
  for reference, prediction in pairs:
    lines = [
        text.replace('. ', '.\n').replace('! ', '!\n').replace('? ', '?\n')
        for text in (reference, prediction)
    ]
    for name, score in scorer.score(*lines).items():
      total[name] += 100 * score.fmeasure / len(pairs)
  got = rouge.rouge([[r] for r, _ in pairs], [p for _, p in pairs]).once()
  assert got == pytest.approx(total)


def test_by_hand():
  # Unigrams: 3 of 4 and 3 of 3; bigrams: 'a b' of 3 and 2; longest common
  # subsequence 'a b d'.
  got = rouge.rouge([['a b c d']], ['a b d']).once()
  assert got == pytest.approx({
      'rouge1': 600 / 7,
      'rouge2': 40.0,
      'rougeL': 600 / 7,
      'rougeLsum': 600 / 7,
  })


def test_the_best_reference_counts_for_each_type():
  references = [['a b c d', 'c a'], ['x']]
  got = rouge.rouge(references, ['c a', 'x']).once()
  assert got['rouge1'] == pytest.approx(100.0)
  alone = rouge.rouge([['a b c d'], ['x']], ['c a', 'x']).once()
  assert alone['rougeL'] < 100


def test_longest_common_subsequence_is_taken_sentence_by_sentence():
  swapped = rouge.rouge(
      [['one two. three four.']], ['three four. one two.']
  ).once()
  assert swapped['rougeLsum'] == pytest.approx(100.0)
  assert swapped['rougeL'] == pytest.approx(50.0)


def test_empty_texts_score_nothing():
  assert set(rouge.rouge([['']], ['']).once().values()) == {0.0}
