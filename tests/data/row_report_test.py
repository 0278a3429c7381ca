"""What preparing tells of rows: empty texts and control characters."""

import json

from flan_jax.data import manifest as manifest_lib
from flan_jax.data import rows as rows_lib
from flan_jax.data import specs
import hypothesis
from hypothesis import strategies as st
import pytest


def _dataset(where, **changes):
  values = {
      'name': 'toy',
      'cluster': 'misc',
      'source': specs.Source(kind='jsonl', where=str(where)),
      'splits': {'train': 'train'},
      'fields': {'text': 'text'},
      'metrics': ('accuracy',),
      'templates': (),
  }
  return specs.Dataset(**{**values, **changes})


def _write(path, rows):
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


def _is_odd(text):
  return any((ord(c) < 32 and c not in '\n\t') or c == '\ufffd' for c in text)


@hypothesis.settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
    st.lists(
        st.one_of(
            st.none(),
            st.text('ab \n\t\x00\x07\x0b\r\x1f\x7f\x85\xa0\ufffd\u2028é'),
        ),
        min_size=1,
    )
)
def test_counts_are_those_of_python(tmp_path, texts):
  rows = [{'text': t, 'deep': {'texts': [t, t]}} for t in texts]
  dataset = _dataset(
      _write(tmp_path / 'rows.jsonl', rows),
      fields={'text': 'text', 'many': 'deep.texts', 'one': 'deep.texts.0'},
  )
  rows = rows_lib.RowStore(tmp_path / 'cache').open(dataset, 'train')
  empty = sum(not (text or '').strip() for text in texts)
  odd = sum(_is_odd(text or '') for text in texts)
  names = ('text', 'many', 'one')
  assert dict(rows.manifest.empty) == dict.fromkeys(
      names if empty else (), empty
  )
  assert dict(rows.manifest.control) == dict.fromkeys(names if odd else (), odd)


def test_labels_and_what_is_declared_under_choices_are_no_texts(
    tmp_path, cache
):
  rows = [{'text': 'a', 'label': 0, 'refs': []}]
  dataset = _dataset(
      _write(tmp_path / 'rows.jsonl', rows),
      fields={'text': 'text', 'label': 'label'},
      choices=specs.Choices(label='label', names=('a', 'b')),
      references='refs',
  )
  manifest = rows_lib.RowStore(cache).open(dataset, 'train').manifest
  assert not manifest.empty and not manifest.control


def test_long_rows_are_no_trouble(tmp_path, cache):
  rows = [{'text': 'word ' * 400_000}, {'text': 'short'}]
  dataset = _dataset(_write(tmp_path / 'rows.jsonl', rows))
  found = rows_lib.RowStore(cache).open(dataset, 'train')
  assert len(found.fields([0])[0]['text']) == 2_000_000


@pytest.mark.parametrize('splits', [1, 2])
def test_findings_are_a_compact_line(tmp_path, cache, splits):
  rows = [
      {'text': '', 'n': 0},
      {'text': 'a\x00', 'n': 1},
      {'text': 'b', 'n': -1},
      {'text': 'c', 'n': 0},
  ]
  path = _write(tmp_path / 'rows.jsonl', rows)
  path.write_text(path.read_text() + '\n{')
  names = ('train', 'validation')[:splits]
  dataset = _dataset(
      path,
      splits=dict.fromkeys(names, 'all'),
      choices=specs.Choices(label='n', names=('no', 'yes')),
  )
  settings = rows_lib.SourceSettings(on_error='skip')
  manifest = rows_lib.RowStore(cache, settings).prepare(dataset)
  n = splits
  assert manifest_lib.findings(manifest.splits.values()) == [
      f'{n} with a hidden label',
      f'{n} broken and skipped',
      f'{n} with no text',
      f'{n} with control characters in text',
  ]
  plain = _dataset(_write(tmp_path / 'good.jsonl', [{'text': 'a'}]))
  manifest = rows_lib.RowStore(cache).prepare(plain)
  assert manifest_lib.findings(manifest.splits.values()) == []
