"""JSON Lines, JSON lists, CSV and TSV: what is read, and what is said."""

import csv
import gzip
import io
import json
import pathlib

from flan_jax import errors
from flan_jax.data import rows as rows_lib
from flan_jax.data import sources
from flan_jax.data import specs
from flan_jax.data.sources import base
import hypothesis
from hypothesis import strategies as st
import pytest


def _dataset(
    kind, where, options=None, path=pathlib.Path(), fields=None, **splits
):
  return specs.Dataset(
      name='toy',
      cluster='misc',
      path=path,
      source=specs.Source(kind=kind, where=str(where), options=options or {}),
      splits=splits or {'train': 'train'},
      fields={'text': 'text'} if fields is None else fields,
      metrics=('accuracy',),
      templates=(),
  )


def _read(dataset, split='train', on_error='raise', data_dir=None):
  settings = base.SourceSettings(data_dir=data_dir)
  source = sources.create(dataset, settings)
  skipped = base.Skipped(on_error)
  return [row for _, row in source.read(split, skipped)], skipped


@pytest.fixture
def write(tmp_path):
  """Writes a file; names that end in .gz are packed."""

  def make(name, content):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if name.endswith('.gz') else data)
    return path

  return make


ROWS = [{'text': 'né\u2028e', 'n': [1, None]}, {'text': '', 'n': []}]
LINES = '\n'.join(json.dumps(row, ensure_ascii=False) for row in ROWS)


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        ('a.jsonl', LINES),
        ('a.jsonl', LINES + '\n'),
        ('a.jsonl.gz', LINES),
        ('a.jsonl', '\ufeff' + LINES),
        ('a.jsonl', '\n' + LINES.replace('\n', '\r\n\r\n  \r\n')),
        ('a.json', json.dumps(ROWS, indent=2)),
        ('a.json.gz', '\n ' + json.dumps(ROWS)),
    ],
)
def test_json_in_its_forms(write, name, content):
  assert _read(_dataset('jsonl', write(name, content)))[0] == ROWS


def test_a_list_inside_an_object(write):
  path = write('a.json', json.dumps({'version': 1, 'examples': ROWS}))
  dataset = _dataset('jsonl', path, {'rows': 'examples'})
  assert _read(dataset)[0] == ROWS
  with pytest.raises(errors.UserError, match="no list 'exampels'"):
    _read(_dataset('jsonl', path, {'rows': 'exampels'}))


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('{"text": "b"', "not valid JSON (Expecting ',' delimiter at column"),
        ('{"text": b}', 'not valid JSON (Expecting value at column 10)'),
        ('[1, 2]', 'a list where a row should be'),
        ('"text"', 'a text where a row should be'),
        ('null', 'null where a row should be'),
        ('{"a": ' + '[' * 100_000, 'not valid JSON (too many brackets'),
    ],
)
def test_a_broken_line_is_named_or_skipped(write, cache, line, message):
  path = write('a.jsonl', f'{{"text": "a"}}\n\n{line}\n{{"text": "c"}}\n')
  dataset = _dataset('jsonl', path)
  with pytest.raises(errors.UserError) as caught:
    rows_lib.RowStore(cache).open(dataset, 'train')
  assert str(caught.value).startswith(f'{path}:3: {message}')
  assert str(caught.value).endswith('fix it or pass --on_error=skip')
  rows, skipped = _read(dataset, on_error='skip')
  assert rows == [{'text': 'a'}, {'text': 'c'}]
  assert (skipped.count, skipped.first) == (1, [str(caught.value)])


def test_what_was_skipped_is_counted_and_reported(write, cache, caplog):
  path = write('a.jsonl', '{"text": "a"}\n' + '{\n' * 30 + '{"text": "b"}\n')
  settings = rows_lib.SourceSettings(on_error='skip')
  # The slice makes it read the file twice: once to count.
  dataset = _dataset('jsonl', path, train='train[-1:]')
  rows = rows_lib.RowStore(cache, settings).open(dataset, 'train')
  assert rows.take([0]) == [{'text': 'b'}]
  assert rows.row_ids([0]) == ['train:1']
  assert rows.manifest.skipped == 30
  assert len(rows.manifest.skipped_places) == 20
  assert f'{path}:2: not valid JSON' in rows.manifest.skipped_places[0]
  assert 'toy: skipped 30 broken rows; the first: ' in caplog.text


def test_bytes_that_are_no_text(write):
  path = write('a.jsonl', b'{"text": "a"}\n{"text": "\xe9"}\n')
  with pytest.raises(errors.UserError) as caught:
    _read(_dataset('jsonl', path))
  assert str(caught.value).startswith(f'{path}:2: byte 0xe9 at 10 is not UTF-8')
  assert _read(_dataset('jsonl', path), on_error='skip')[0] == [{'text': 'a'}]


def test_a_broken_list_says_where(write):
  path = write('a.json', '[{"text": "a"},\n {"text" "b"}]')
  with pytest.raises(errors.UserError, match=r'a\.json: .* at line 2, column'):
    _read(_dataset('jsonl', path), on_error='skip')
  path = write('b.json', '[{"text": "a"}, 3]')
  with pytest.raises(errors.UserError, match=r'b\.json: entry 1: a number'):
    _read(_dataset('jsonl', path))


def test_a_file_that_is_not_gzip(write, tmp_path):
  (tmp_path / 'a.jsonl.gz').write_text('{"text": "a"}')
  with pytest.raises(errors.UserError, match='cannot be read: Not a gzipped'):
    _read(_dataset('jsonl', tmp_path / 'a.jsonl.gz'))
  whole = write('b.jsonl.gz', (LINES + '\n') * 50).read_bytes()
  spoilt = whole[:30] + b'spoilt' + whole[36:]
  for content in (whole[:-20], spoilt):
    (tmp_path / 'c.jsonl.gz').write_bytes(content)
    with pytest.raises(errors.UserError, match='c.jsonl.gz: cannot be read'):
      _read(_dataset('jsonl', tmp_path / 'c.jsonl.gz'))


_CELLS = st.lists(
    st.lists(
        st.text(
            st.characters(exclude_categories=('Cs',), exclude_characters='\r'),
            max_size=5,
        ),
        min_size=2,
        max_size=2,
    ).filter(any),
    min_size=1,
    max_size=5,
)


@hypothesis.given(cells=_CELLS)
def test_csv_is_what_the_csv_module_writes(tmp_path_factory, cells):
  text = io.StringIO()
  writer = csv.writer(text)
  writer.writerow(['a', 'b'])
  writer.writerows(cells)
  path = tmp_path_factory.mktemp('csv') / 'a.csv'
  path.write_text(text.getvalue(), encoding='utf-8', newline='')
  found = _read(_dataset('csv', path))[0]
  assert found == [{'a': a, 'b': b} for a, b in cells]


def test_tsv_cells_are_as_they_are(write):
  path = write('a.tsv', 'text\tlabel\r\n"Yes\t1\r\n\r\nsay "no"\t0\r\n')
  expected = [
      {'text': '"Yes', 'label': '1'},
      {'text': 'say "no"', 'label': '0'},
  ]
  assert _read(_dataset('tsv', path))[0] == expected
  standard = write('b.tsv', 'text\tlabel\n"a\tb\nc"\t1\n')
  dataset = _dataset('tsv', standard, {'quoting': 'standard'})
  assert _read(dataset)[0] == [{'text': 'a\tb\nc', 'label': '1'}]
  with pytest.raises(errors.UserError, match="'some' is none of standard"):
    _read(_dataset('tsv', standard, {'quoting': 'some'}))


def test_columns_are_named_by_the_declaration_or_the_file(write):
  path = write('a.csv', '1,0\n2,1\n')
  named = _dataset('csv', path, {'columns': 'id, label'})
  assert _read(named)[0] == [
      {'id': '1', 'label': '0'},
      {'id': '2', 'label': '1'},
  ]
  unnamed = write('b.csv', ',text\n0,x\n')
  assert _read(_dataset('csv', unnamed))[0] == [{'column_1': '0', 'text': 'x'}]
  twice = write('c.csv', 'a,b,a\n1,2,3\n')
  with pytest.raises(errors.UserError, match=r"c\.csv:1: two .* called 'a'"):
    _read(_dataset('csv', twice))


@pytest.mark.parametrize(
    ('kind', 'content', 'message'),
    [
        ('csv', 'a,b\n"1\n2",3\n4\n5,6\n', '4: 1 cell where there are 2'),
        ('csv', 'a,b\n1,2,3\n5,6\n', '2: 3 cells where there are 2 columns (a'),
        ('tsv', 'a\tb\n\n1\n5\t6\n', '3: 1 cell where there are 2 columns'),
        ('csv', 'a,b\n"1"x,2\n5,6\n', "2: ',' expected after '\"': fix the"),
    ],
)
def test_a_broken_line_of_a_table(write, kind, content, message):
  path = write(f'a.{kind}', content)
  with pytest.raises(errors.UserError) as caught:
    _read(_dataset(kind, path))
  assert str(caught.value).startswith(f'{path}:{message}')
  rows, skipped = _read(_dataset(kind, path), on_error='skip')
  assert rows[-1] == {'a': '5', 'b': '6'} and skipped.count == 1


def test_an_open_quote_hints_at_the_remedy(write):
  path = write('a.csv', 'a,b\n1,"2\n3,4\n')
  with pytest.raises(errors.UserError, match=r'a\.csv:2: .*quoting: none'):
    _read(_dataset('csv', path))
  dataset = _dataset('csv', path, {'quoting': 'none'})
  assert _read(dataset)[0][0] == {'a': '1', 'b': '"2'}


def test_long_cells_are_read(write):
  path = write('a.csv', f'a,b\n{"x" * 500_000},1\n')
  assert len(_read(_dataset('csv', path))[0][0]['a']) == 500_000


def test_real_tables(shared):
  data = shared / 'data'
  rows, _ = _read(_dataset('csv', data / 'cosmosqa/valid.csv'))
  assert len(rows) == 2000 and set(row['label'] for row in rows) == set('0123')
  rows, _ = _read(_dataset('tsv', data / 'gap/gap-development.tsv'))
  assert len(rows) == 2000
  assert all(row['Pronoun'] in row['Text'] for row in rows)
  rows, _ = _read(_dataset('tsv', data / 'mrpc/msr-para-train.tsv'))
  assert len(rows) == 3576 and set(rows[0]) >= {'Quality', '#1 String'}
  answers = _dataset(
      'csv', data / 'comve/train/subtaskA_answers_all.csv', {'columns': 'id,x'}
  )
  rows, _ = _read(answers)
  assert len(rows) == 5000 and {row['x'] for row in rows} == {'0', '1'}
  cot = _dataset(
      'tsv', data / 'flan_cot/gsm8k_train.tsv', {'columns': 'q,a,why'}
  )
  assert _read(cot)[0][0]['a'] == '72'


def test_real_json(shared, cache):
  data = shared / 'data'
  splits = {'train': 'train', 'validation': 'train[-9:]', 'test': 'val'}
  dataset = _dataset('jsonl', data / 'rte', fields={}, **splits)
  manifest = rows_lib.RowStore(cache).prepare(dataset)
  counts = {name: split.rows for name, split in manifest.splits.items()}
  assert counts == {'train': 2490, 'validation': 9, 'test': 277}
  bbh = _dataset('jsonl', data / 'bbh/bbh/navigate.json', {'rows': 'examples'})
  rows, _ = _read(bbh)
  assert len(rows) == 250 and set(rows[0]) == {'input', 'target'}
  rows, _ = _read(_dataset('jsonl', data / 'scitldr/SciTLDR-A/dev.jsonl'))
  assert isinstance(rows[0]['target'], list)


def test_paths_are_looked_for_in_three_places(write, tmp_path, monkeypatch):
  declared = write('decl/toy.yaml', '')
  monkeypatch.chdir(tmp_path / 'decl')
  (tmp_path / 'work').mkdir()
  monkeypatch.chdir(tmp_path / 'work')
  last = tmp_path / 'last'
  dataset = _dataset('jsonl', 'sub/a.jsonl', path=declared)

  def text():
    return _read(dataset, data_dir=str(last))[0][0]['text']

  with pytest.raises(errors.UserError) as caught:
    text()
  places = [str(tmp_path / name) for name in ('decl', 'work', 'last')]
  assert str(caught.value) == (
      f"{declared}: splits: 'train' is not there (looked in"
      f' {", ".join(places)}): put it there'
  )
  for folder in ('last', 'work', 'decl'):
    write(f'{folder}/sub/a.jsonl', json.dumps({'text': folder}))
    assert text() == folder


def test_a_missing_file_says_so_through_the_store(tmp_path, cache):
  dataset = _dataset('jsonl', 'nowhere.jsonl', path=tmp_path / 'toy.yaml')
  with pytest.raises(errors.UserError) as caught:
    rows_lib.RowStore(cache).open(dataset, 'train')
  text = str(caught.value)
  assert text.startswith(
      f"{tmp_path / 'toy.yaml'}: source: 'nowhere.jsonl' is not there"
  )
  assert '--data_dir=DIR' in text


def test_splits_of_a_folder(write, cache, tmp_path):
  for name in ('train.jsonl', 'dev.json.gz', 'more/x.jsonl'):
    write(f'data/{name}', json.dumps({'text': name}))
  write('data/notes.txt', 'no rows')
  dataset = _dataset(
      'jsonl',
      tmp_path / 'data',
      train='train.jsonl+more/x.jsonl',
      validation='dev',
      test='train',
  )
  store = rows_lib.RowStore(cache)
  rows = store.open(dataset, 'train')
  assert [row['text'] for row in rows.take([0, 1])] == [
      'train.jsonl',
      'more/x.jsonl',
  ]
  assert rows.row_ids([0, 1]) == ['train.jsonl:0', 'more/x.jsonl:0']
  assert store.open(dataset, 'validation').take([0]) == [
      {'text': 'dev.json.gz'}
  ]
  # The folder's file comes before the dataset's own split of that name.
  assert len(store.open(dataset, 'test')) == 1
  wrong = _dataset('jsonl', tmp_path / 'data', train='notes')
  with pytest.raises(errors.UserError, match='dev.json.gz, train.jsonl'):
    store.open(wrong, 'train')
  wrong = _dataset('jsonl', tmp_path / 'data', train='tset.jsonl')
  with pytest.raises(errors.UserError, match="'tset.jsonl' is not there"):
    store.open(wrong, 'train')


def test_a_path_with_plus_signs_and_brackets(write, cache):
  path = write('c++[1].jsonl', '{"text": "a"}\n')
  dataset = _dataset('jsonl', path.parent, train='c++[1].jsonl')
  assert len(rows_lib.RowStore(cache).open(dataset, 'train')) == 1


def test_an_unknown_kind_of_source():
  with pytest.raises(errors.UserError, match='Did you mean jsonl'):
    sources.create(_dataset('josnl', 'x'), base.SourceSettings())
  with pytest.raises(errors.UserError, match="neither 'raise' nor 'skip'"):
    base.SourceSettings(on_error='ignore')
