"""Fingerprints change with a file, and cost little while it does not."""

import builtins
import hashlib
import os
import time

from flan_jax.data import fingerprints
import pytest


@pytest.fixture
def old_file(tmp_path):
  """A file that was changed a minute ago."""
  path = tmp_path / 'a.jsonl'
  path.write_bytes(b'one')
  _age(path)
  return path


def _age(path, seconds=60):
  then = time.time() - seconds
  os.utime(path, (then, then))


def _count_reads(monkeypatch, path):
  reads = []
  real = builtins.open

  def counted(file, *args, **kwargs):
    if str(file) == str(path):
      reads.append(file)
    return real(file, *args, **kwargs)

  monkeypatch.setattr(builtins, 'open', counted)
  return reads


def test_it_is_the_content(old_file, tmp_path):
  expected = hashlib.sha256(b'one').hexdigest()
  assert fingerprints.of_file(old_file) == expected
  assert fingerprints.of_file(old_file, tmp_path / 'kept') == expected
  copy = tmp_path / 'b.jsonl'
  copy.write_bytes(b'one')
  assert fingerprints.of_file(copy) == expected


def test_an_unchanged_file_is_read_once(old_file, tmp_path, monkeypatch):
  reads = _count_reads(monkeypatch, old_file)
  for _ in range(3):
    fingerprints.of_file(old_file, tmp_path / 'kept')
  assert len(reads) == 1
  _age(old_file, 30)  # Touched, not changed.
  first = fingerprints.of_file(old_file, tmp_path / 'kept')
  assert len(reads) == 2 and first == hashlib.sha256(b'one').hexdigest()


def test_a_file_changed_just_now_is_always_read(tmp_path, monkeypatch):
  path = tmp_path / 'a.jsonl'
  path.write_bytes(b'one')
  before = path.stat().st_mtime_ns
  first = fingerprints.of_file(path, tmp_path / 'kept')
  # As fast as a clock of a file system may be slow.
  path.write_bytes(b'two')
  os.utime(path, ns=(before, before))
  assert fingerprints.of_file(path, tmp_path / 'kept') != first


@pytest.mark.parametrize('content', ['', '[]', '{}', '3', '["x", 1, 2, "y"]'])
def test_what_was_kept_may_be_damaged(old_file, tmp_path, content):
  kept = tmp_path / 'kept'
  expected = fingerprints.of_file(old_file, kept)
  (note,) = kept.iterdir()
  note.write_text(content)
  assert fingerprints.of_file(old_file, kept) == expected


def test_a_cache_that_cannot_be_written_costs_only_time(old_file, tmp_path):
  (tmp_path / 'kept').write_text('a file')
  assert fingerprints.of_file(old_file, tmp_path / 'kept')
