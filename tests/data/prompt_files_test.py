"""Files of prompts: every line becomes an example, or is said to be broken."""

import hashlib
import json

from flan_jax import errors
from flan_jax.data import prompt_files
from hypothesis import given
from hypothesis import strategies as st
import pytest


def _examples(path):
  file = prompt_files.PromptFile(path)
  return file.examples(range(len(file)))


def test_json_lines(tmp_path):
  path = tmp_path / 'questions.jsonl'
  rows = [
      {'inputs': 'Is it?\nYes?', 'options': ['yes', 'no'], 'targets': 'no'},
      {'inputs': 'Say é\u2028.', 'id': 7, 'targets': 'é', 'label': 3},
      {'inputs': 'And?', 'options': ['a'], 'targets': None, 'id': 'x'},
  ]
  lines = [json.dumps(row, ensure_ascii=False) for row in rows]
  path.write_text(lines[0] + '\n\n' + lines[1] + '\r\n' + lines[2])
  file = prompt_files.PromptFile(path)
  assert len(file) == 3
  assert file.name == 'questions'
  assert file.unused == ['label']
  assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
  first, second, third = file.examples(range(3))
  assert (first.task, first.row_id) == ('questions', 'line:1')
  assert first.inputs == 'Is it?\nYes?'
  assert first.options == ('yes', 'no')
  assert (first.targets, first.answer_index) == ('no', 1)
  assert first.references == ('no',)
  assert (second.row_id, second.inputs) == ('7', 'Say é\u2028.')
  assert (second.options, second.answer_index) == (None, None)
  assert (second.targets, second.references) == ('é', ('é',))
  assert (third.row_id, third.options) == ('x', ('a',))
  assert (third.targets, third.references, third.answer_index) == ('', (), None)
  assert file.examples([1]) == [second]
  assert file.examples([]) == []


@pytest.mark.parametrize('end', ['\n', '\r\n'])
def test_text_is_a_prompt_a_line(tmp_path, end):
  path = tmp_path / 'prompts.v2.txt'
  path.write_bytes(f'\ufeffFirst{end} {{"a": 1}} \x85two'.encode())
  first, second = _examples(path)
  assert (first.task, first.inputs) == ('prompts.v2', 'First')
  assert second.inputs == ' {"a": 1} \x85two'
  assert second.row_id == 'line:2'


@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=('Cs',))).filter(
            lambda text: text.strip()
        ),
        min_size=1,
    )
)
def test_any_text_comes_back(texts, tmp_path_factory):
  path = tmp_path_factory.mktemp('prompts') / 'a.jsonl'
  for ascii_only in (True, False):
    path.write_text(
        ''.join(
            json.dumps({'inputs': text}, ensure_ascii=ascii_only) + '\n'
            for text in texts
        ),
        encoding='utf-8',
    )
    assert [example.inputs for example in _examples(path)] == texts


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('{"inputs": "a"', "not valid JSON (Expecting ',' delimiter at col"),
        ('What is it?', 'not valid JSON .* one prompt a line .txt'),
        ('["a"]', 'is no object: write a line such as'),
        ('[' * 100_000, 'too many brackets'),
        ('{"input": "a"}', 'inputs: is missing; the line has input. Did you'),
        ('{}', 'inputs: is missing; the line has nothing.'),
        ('{"inputs": null}', 'inputs: must be a text, not null'),
        ('{"inputs": 3}', 'inputs: must be a text, not 3'),
        ('{"inputs": " "}', 'inputs: is empty'),
        ('{"inputs": "a\\ud800"}', "inputs: character 1 is half of one ('.ud8"),
        ('{"inputs": "a", "options": []}', 'options: must be a list of one'),
        ('{"inputs": "a", "options": "b"}', 'options: must be a list .* "b"'),
        ('{"inputs": "a", "options": ["b", ""]}', 'options[1]: is empty'),
        ('{"inputs": "a", "options": ["b", 1]}', 'options[1]: must be a text'),
        ('{"inputs": "a", "options": ["b", "b"]}', "options: 'b' is there tw"),
        (
            '{"inputs": "a", "options": ["yes", "no"], "targets": "yess"}',
            "targets: 'yess' is none of the options. Did you mean yes?",
        ),
        ('{"inputs": "a", "targets": ["b"]}', r'targets: must be a text'),
        ('{"inputs": "a", "id": 1.5}', 'id: must be a text or a whole number'),
        ('{"inputs": "a", "id": "one"}', "id: 'one' is that of line 1 too"),
    ],
)
def test_a_broken_line_is_said(tmp_path, line, message):
  path = tmp_path / 'a.jsonl'
  path.write_text('{"inputs": "good", "id": "one"}\n' + line + '\n')
  message = message.replace('(', r'\(').replace('[', r'\[')
  with pytest.raises(errors.UserError, match=f'a.jsonl:2: {message}') as found:
    prompt_files.PromptFile(path)
  assert '\n' not in str(found.value)


def test_a_line_that_is_not_utf8(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_bytes('one\ntwo é\n'.encode('latin1'))
  with pytest.raises(errors.UserError, match='a.txt:2: byte 0xe9 at 4 is not'):
    prompt_files.PromptFile(path)


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.txt', b'one\n\ntwo\n', 'a.txt:2: inputs: is empty'),
        ('a.txt', b'', 'a.txt: holds no prompts'),
        ('a.jsonl', b'\n\n', 'a.jsonl: holds no prompts'),
        ('a.jsonl.gz', b'', 'a.jsonl.gz: is compressed: unpack it'),
    ],
)
def test_files_that_will_not_do(tmp_path, name, content, message):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(errors.UserError, match=message):
    prompt_files.PromptFile(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
  with pytest.raises(errors.UserError, match='a.txt: No such file'):
    prompt_files.PromptFile(tmp_path / 'a.txt')
  with pytest.raises(errors.UserError, match='Is a directory'):
    prompt_files.PromptFile(tmp_path)
