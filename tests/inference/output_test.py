"""Directories of predictions: every line once, and never of two settings."""

import json
import random

from flan_jax import errors
from flan_jax.inference import output
from flan_jax.inference import shards
from flan_jax.inference import writer
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
import pytest

_SETTINGS = {'model': 'a', 'lengths': {'inputs': 8}, 'limits': (1, 2)}


def _lines(first, last, **more):
  return [{'index': i, 'text': f'é{i}', **more} for i in range(first, last)]


def _write(out, task, first, last, block=4):
  """Writes what is missing of a task, as the command does; counts blocks."""
  kept = out.there(task, first, last, block)
  if kept is None:
    return 0
  added = 0
  with out.begin(task, kept) as part:
    for start in range(first + kept, last, block):
      part.add(_lines(start, min(start + block, last)))
      added += 1
    part.finish()
  return added


def test_names_of_files(tmp_path):
  path = output.Output(tmp_path, {}).path
  assert path('rte:template_3') == tmp_path / 'rte.template_3.jsonl'
  shard = output.Output(tmp_path, {}, output.Shard(2, 8))
  assert shard.path('rte') == tmp_path / 'rte-00002-of-00008.jsonl'


def test_a_finished_file_is_left_alone(tmp_path):
  out = output.Output(tmp_path / 'new', _SETTINGS)
  assert out.there('rte', 0, 10, 4) == 0
  assert _write(out, 'rte', 0, 10) == 3
  assert writer.read(out.path('rte')) == _lines(0, 10)
  assert _write(out, 'rte', 0, 10) == 0
  assert sorted(path.name for path in out.directory.iterdir()) == [
      'rte.jsonl',
      output.SETTINGS,
  ]


@hypothesis_settings(deadline=None, max_examples=60)
@given(
    cut=st.integers(0, 400),
    size=st.integers(0, 17),
    block=st.integers(1, 6),
    first=st.integers(0, 3),
)
def test_wherever_it_is_cut_the_file_is_the_same(
    cut, size, block, first, tmp_path_factory
):
  folder = tmp_path_factory.mktemp('out')
  out = output.Output(folder, _SETTINGS)
  begin = first * block
  _write(out, 'rte', begin, begin + size, block)
  path = out.path('rte')
  whole = path.read_bytes()
  path.rename(path.with_name(path.name + output.PART))
  with open(path.with_name(path.name + output.PART), 'r+b') as part:
    part.truncate(min(cut, len(whole)))
  kept = out.there('rte', begin, begin + size, block)
  assert kept == size or kept % block == 0
  _write(out, 'rte', begin, begin + size, block)
  assert path.read_bytes() == whole


@pytest.mark.parametrize('finished', [True, False])
@pytest.mark.parametrize('change', ['model', 'lengths', 'new', 'fact', 'task'])
def test_nothing_is_added_to_predictions_of_other_settings(
    tmp_path, finished, change
):
  first = output.Output(tmp_path, _SETTINGS)
  with first.begin('rte', 0, {'examples': 'x'}) as part:
    part.add(_lines(0, 4))
    if finished:
      part.finish()
  settings, facts = dict(_SETTINGS), {'examples': 'x'}
  if change == 'fact':
    facts = {'examples': 'y'}
  elif change == 'task':
    recorded = tmp_path / output.SETTINGS
    recorded.write_text(recorded.read_text().replace('"rte"', '"r"'))
  else:
    settings[change] = 'b'
  before = {path: path.read_bytes() for path in tmp_path.iterdir()}
  name = {'fact': 'examples'}.get(change, change)
  with pytest.raises(errors.UserError, match=f'rte.jsonl: {name}: was predic'):
    output.Output(tmp_path, settings).there('rte', 0, 8, 4, facts)
  assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
  moved = {**_SETTINGS, 'checkpoint': 'elsewhere', 'input_file': 'also'}
  if change != 'task':
    output.Output(tmp_path, moved).there('rte', 0, 8, 4, {'examples': 'x'})


def test_overwriting_never_leaves_old_predictions_under_new_settings(tmp_path):
  _write(output.Output(tmp_path, {'model': 'a'}), 'rte', 0, 8)
  out = output.Output(tmp_path, {'model': 'b'})
  part = out.begin('rte', 0, overwrite=True)
  part.close()  # Killed here.
  assert not out.path('rte').exists()
  assert out.there('rte', 0, 8, 4) == 0
  assert _write(out, 'rte', 0, 8) == 2


def test_a_file_of_unknown_origin_is_not_taken_for_ours(tmp_path):
  (tmp_path / 'rte.jsonl').write_text('{}')
  out = output.Output(tmp_path, {'model': 'a'})
  with pytest.raises(errors.UserError, match='rte.jsonl: is not in settings'):
    out.there('rte', 0, 4, 4)


@pytest.mark.parametrize(
    'damage', [b'{"index": 2}\n', b'\0\0\0\0\n', b'[3]\n', b'{"index": \n']
)
def test_a_damaged_part_is_said(tmp_path, damage):
  out = output.Output(tmp_path, {})
  with out.begin('rte', 0) as part:
    part.add(_lines(0, 3))
  path = tmp_path / 'rte.jsonl.part'
  path.write_bytes(path.read_bytes() + damage)
  with pytest.raises(errors.UserError, match='rte.jsonl.part:4: is damaged'):
    out.there('rte', 0, 8, 4)


def test_two_programs_do_not_write_one_file(tmp_path):
  out = output.Output(tmp_path, {})
  with out.begin('rte', 0) as part:
    part.add(_lines(0, 4))
    with pytest.raises(errors.UserError, match='another program is writing'):
      output.Output(tmp_path, {}).begin('rte', 4)
    part.add(_lines(4, 8))
    part.finish()
  assert writer.read(out.path('rte')) == _lines(0, 8)


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
  out = output.Output(tmp_path, {})
  with out.begin('rte', 0) as part:
    part.add(_lines(0, 4))

    def full(_):
      raise OSError(28, 'No space left on device')

    monkeypatch.setattr(output.os, 'fsync', full)
    with pytest.raises(errors.UserError, match=r'part: .* \(No space left'):
      part.add(_lines(4, 8))
  monkeypatch.undo()
  _write(out, 'rte', 0, 8)
  assert writer.read(out.path('rte')) == _lines(0, 8)


def test_half_a_surrogate_pair_comes_back(tmp_path):
  out = output.Output(tmp_path, {})
  with out.begin('rte', 0) as part:
    part.add([{'index': 0, 'text': 'a\ud800b'}])
    part.finish()
  assert writer.read(out.path('rte')) == [{'index': 0, 'text': 'a\ud800b'}]


@given(st.integers(0, 400), st.integers(1, 40))
def test_shards_share_everything_out(number, count):
  shares = [output.Shard(i, count).share(number) for i in range(count)]
  ends = [0, *(end for _, end in shares)]
  assert [first for first, _ in shares] == ends[:-1] and ends[-1] == number
  sizes = [end - first for first, end in shares]
  assert max(sizes) - min(sizes) <= 1


class TestJoin:
  """Shards become the file that one program would have written."""

  @pytest.fixture
  def folder(self, tmp_path):
    """Three shards of two tasks, one of which has but two blocks."""
    order = list(range(3))
    random.Random(0).shuffle(order)
    for i in order:
      out = output.Output(tmp_path, {'model': 'a'}, output.Shard(i, 3))
      _write(out, 'rte', 8 * i, min(8 * i + 8, 21))
      _write(out, 'cb', *((0, 0), (0, 4), (4, 7))[i])
    return tmp_path

  def test_equals_the_whole(self, folder, tmp_path, capsys):
    assert shards.join(folder) == 2
    assert str(folder / 'rte.jsonl') in capsys.readouterr().out
    alone = output.Output(tmp_path / 'alone', {'model': 'a'})
    _write(alone, 'rte', 0, 21)
    _write(alone, 'cb', 0, 7)
    for name in ('rte', 'cb'):
      found = (folder / f'{name}.jsonl').read_bytes()
      assert found == alone.path(name).read_bytes()
    # It counts as finished, and can be joined again.
    out = output.Output(folder, {'model': 'a'})
    assert out.there('rte', 0, 21, 4) is None
    assert shards.join(folder) == 2

  def test_missing_or_unfinished_shards_are_named(self, folder):
    path = folder / 'rte-00001-of-00003.jsonl'
    path.rename(f'{path}.part')
    with pytest.raises(errors.UserError, match='1 of 3 .* rte-00001-of-00003'):
      shards.join(folder)
    assert not (folder / 'cb.jsonl').exists()

  def test_shards_of_other_settings(self, folder):
    file = folder / 'settings-00002-of-00003.json'
    file.write_text(file.read_text().replace('"model": "a"', '"model": "b"'))
    with pytest.raises(errors.UserError, match="00002-.*: model: is 'b', and"):
      shards.join(folder)
    file.unlink()
    with pytest.raises(errors.UserError, match='no file of settings'):
      shards.join(folder)

  def test_two_numbers_of_shards(self, folder):
    for i in range(2):
      out = output.Output(folder, {'model': 'a'}, output.Shard(i, 2))
      _write(out, 'rte', 0, 4)
    with pytest.raises(errors.UserError, match='rte is there in 2 and 3 shar'):
      shards.join(folder)

  def test_a_joined_file_of_other_settings_stays(self, folder):
    _write(output.Output(folder, {'model': 'b'}), 'rte', 0, 4)
    with pytest.raises(errors.UserError, match=r"rte.jsonl: model: is 'a', an"):
      shards.join(folder)
    assert len(writer.read(folder / 'rte.jsonl')) == 4
    shards.join(folder, overwrite=True)
    assert len(writer.read(folder / 'rte.jsonl')) == 21
    entries = json.loads((folder / output.SETTINGS).read_text())
    assert entries['rte.jsonl']['model'] == 'a'

  def test_no_shards(self, tmp_path):
    with pytest.raises(errors.UserError, match='holds no shards'):
      shards.join(tmp_path)
    with pytest.raises(errors.UserError, match='no such directory'):
      shards.join(tmp_path / 'nowhere')
