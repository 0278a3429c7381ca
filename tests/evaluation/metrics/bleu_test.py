"""BLEU against sacrebleu's own corpus score."""

from flan_jax.evaluation.metrics import bleu
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest
import sacrebleu

_SENTENCES = st.lists(
    st.sampled_from('the cat sat, on a mat. Dogs (ran) 3.5 times & é'.split()),
    max_size=9,
).map(' '.join)
_CASES = st.lists(
    st.tuples(st.lists(_SENTENCES, min_size=1, max_size=3), _SENTENCES),
    min_size=1,
    max_size=6,
)


def _sacrebleu(references, predictions) -> float:
  most = max(map(len, references))
  # sacrebleu wants the first references of all, then the second ones ...
  columns = [
      [texts[i] if i < len(texts) else None for texts in references]
      for i in range(most)
  ]
  return sacrebleu.BLEU(tokenize='13a').corpus_score(predictions, columns).score


@settings(deadline=None)
@given(_CASES)
def test_bleu_is_sacrebleus(cases):
  references, predictions = zip(*cases, strict=True)
  got = bleu.bleu(references, predictions).once()
  expected = _sacrebleu(references, list(predictions))
  assert got['bleu'] == pytest.approx(expected)


@settings(deadline=None)
@given(_CASES, st.randoms(use_true_random=False))
def test_weights_are_repetitions(cases, random):
  references, predictions = zip(*cases, strict=True)
  drawn = [random.randrange(len(cases)) for _ in cases]
  weights = np.bincount(drawn, minlength=len(cases))[None].astype(float)
  got = bleu.bleu(references, predictions).values(weights)['bleu']
  expected = _sacrebleu(
      [references[i] for i in drawn], [predictions[i] for i in drawn]
  )
  assert got[0] == pytest.approx(expected)


def test_by_hand():
  # 13a makes five tokens of 'the cat sat.' and of the reference; precisions
  # 3/4, 2/3, 1/2 and 0 of 1, which smoothing makes 1/2; no brevity penalty.
  got = bleu.bleu([['a cat sat.']], ['the cat sat.']).once()['bleu']
  expected = 100 * (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25
  assert got == pytest.approx(expected)
