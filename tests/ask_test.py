"""`flan-jax ask`: a prompt, a pipe, and a real terminal."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import types

from flan_jax import ask
from flan_jax import cli
from flan_jax import errors
from flan_jax import vocabularies
from flan_jax.inference import predictor as predictor_lib
from flan_jax.inference import settings
import pytest


class Model:
  """Says what it was asked, a word at a time."""

  def __init__(self, scores=(-1.0, -3.0, None)):
    self.asked = []
    self._scores = scores

  def stream(self, prompt, decoding):
    self.asked.append((prompt, decoding.method))
    yield from re.findall(r'\S+\s*', f'I read {len(prompt)}')

  def generate(self, prompts, decoding):
    self.asked.append((prompts[0], decoding.method))
    return [types.SimpleNamespace(text='whole')]

  def rank(self, prompts, options):
    assert len(options) == len(self._scores) and len(prompts) == 1
    return [types.SimpleNamespace(option_scores=self._scores)]


def test_an_answer_comes_in_pieces():
  model = Model()
  answerer = ask.Answerer(model, settings.Decoding())
  assert list(answerer.answer('abc')) == ['I ', 'read ', '3', '\n']
  beams = ask.Answerer(model, settings.Decoding(method='beam'))
  assert list(beams.answer('abc')) == ['whole', '\n']
  assert model.asked == [('abc', 'greedy'), ('abc', 'beam')]


def test_options_come_with_their_probabilities():
  answerer = ask.Answerer(Model((-3.0, None, -1.0)), settings.Decoding(), 'abc')
  # exp(-1) / (exp(-1) + exp(-3)) by hand.
  assert ''.join(answerer.answer('?')) == ' 88.08%  c\n 11.92%  a\n  0.00%  b\n'
  nothing = ask.Answerer(Model((None, None)), settings.Decoding(), 'ab')
  with pytest.raises(errors.UserError, match='no option has a score'):
    list(nothing.answer('?'))


def _history(length, most=None):
  said = []
  vocabulary = vocabularies.ByteVocabulary()
  return ask.History(vocabulary, length, most, said.append), said


def test_what_was_said_stands_before_a_prompt():
  history, said = _history(64)
  assert history.prompt('one?') == 'one?'
  history.add('one?', '1')
  assert history.prompt('two?') == 'one?\n\n1\n\ntwo?'
  history.add('two?', '2')
  assert history.prompt('3?') == 'one?\n\n1\n\ntwo?\n\n2\n\n3?'
  history.reset()
  assert history.prompt('3?') == '3?'
  assert not said


def test_the_oldest_goes_where_there_is_no_room():
  # Bytes, and the end: 'two?\n\n2\n\n3?' are 11 and 1.
  for length, wanted in ((12, 'two?\n\n2\n\n3?'), (11, '3?'), (3, '3?')):
    history, said = _history(length)
    history.add('one?', '1')
    history.add('two?', '2')
    assert history.prompt('3?') == wanted
    assert not said
  history, said = _history(2)
  assert history.prompt('3?') == '3?'
  assert said == [
      'the prompt has 3 tokens, of which the model reads the first 2'
  ]


@pytest.mark.parametrize(
    ('most', 'wanted'), [(0, '3?'), (1, 'two?\n\n2\n\n3?')]
)
def test_history_can_be_short(most, wanted):
  history, _ = _history(64, most)
  history.add('one?', '1')
  history.add('two?', '2')
  assert history.prompt('3?') == wanted


@pytest.fixture(scope='module')
def project(make_project):
  """A run of one step, which writes nonsense."""
  project = make_project('TRAIN_STEPS = 1\n')
  assert project.train('run') == 0
  return project


def _command(project, *flags):
  return [
      *(sys.executable, '-m', 'flan_jax', 'ask'),
      f'--checkpoint={project / "run"}',
      f'--cache_dir={project / "cache"}',
      *flags,
  ]


_ENVIRONMENT = os.environ | {'XLA_FLAGS': '', 'TERM': 'dumb'}


def _piped(project, *flags, stdin=None):
  done = subprocess.run(
      _command(project, *flags),
      input=stdin,
      stdin=subprocess.DEVNULL if stdin is None else None,
      env=_ENVIRONMENT,
      capture_output=True,
  )
  return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_argument_and_pipe_are_answered_alike(project):
  code, out, err = _piped(project, 'What is 1 + 1?')
  assert code == 0, err
  assert out.endswith('\n')
  assert err == ''
  assert _piped(project, stdin=b'What is 1 + 1?\n') == (0, out, '')
  # The same as the class says, whole.
  predictor = predictor_lib.Predictor.from_checkpoint(project / 'run')
  (said,) = predictor.generate(['What is 1 + 1?'])
  assert out == said.text + '\n'
  code, other, _ = _piped(
      project, '--temperature=2', '--max_length=6', 'What is 1 + 1?'
  )
  assert code == 0 and other != out


def test_options_are_ranked(project):
  code, out, err = _piped(project, '--option=2', '--option=eleven', '1 + 1?')
  assert code == 0, err
  shares = re.findall(r'^ *([\d.]+)%  (2|eleven)$', out, re.MULTILINE)
  assert {option for _, option in shares} == {'2', 'eleven'}
  assert sum(float(share) for share, _ in shares) == pytest.approx(100, abs=0.1)
  assert float(shares[0][0]) >= float(shares[1][0])


@pytest.mark.parametrize(
    ('flags', 'stdin', 'message'),
    [
        ((), b'', 'PROMPT: is empty'),
        ((' ',), None, 'PROMPT: is empty'),
        ((), b'caf\xe9\n', 'PROMPT: byte 0xe9 at 3'),
        (('--option=a', '--option=a', 'x'), None, "--option: 'a' is there twi"),
        (('--option=', 'x'), None, '--option: must not be empty'),
        (('--top_p=3', 'x'), None, 'Decoding.top_p: must be'),
        (('--history=-1', 'x'), None, "must be 0 or more, not '-1'"),
        (('--checkpoint=nowhere', 'x'), None, 'nowhere: there is no such run'),
    ],
)
def test_mistakes_are_one_line_and_quick(project, flags, stdin, message):
  code, out, err = _piped(project, *flags, stdin=stdin)
  assert code == 2
  assert message in err
  assert err.count('\n') == 1 and not out


def test_mistakes_in_arguments_load_nothing_slow():
  script = (
      'import sys; from flan_jax import cli\n'
      'try: code = cli.main(sys.argv[1:])\n'
      'except SystemExit as stopped: code = stopped.code\n'
      'slow = {"jax", "flax", "orbax", "gin", "numpy"}\n'
      'print(code, sorted(slow & set(sys.modules)), file=sys.stderr)'
  )
  for argv, code in ((['--help'], 0), (['--optoin=a'], 2), (['a', 'b'], 2)):
    done = subprocess.run(
        [sys.executable, '-c', script, 'ask', *argv],
        capture_output=True,
        text=True,
    )
    assert done.stderr.splitlines()[-1] == f'{code} []'


# Makes its standard input the terminal that Ctrl-C comes from.
_IN_TERMINAL = (
    'import fcntl, os, sys, termios\n'
    'fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n'
    'os.execv(sys.argv[1], sys.argv[1:])'
)


class Terminal:
  """A process in a terminal of its own."""

  def __init__(self, command):
    self._ours, theirs = pty.openpty()
    self.process = subprocess.Popen(
        [sys.executable, '-c', _IN_TERMINAL, *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=_ENVIRONMENT,
        start_new_session=True,
    )
    os.close(theirs)

  def until(self, end: str, seconds: float = 120) -> str:
    """Reads until the text ends so; returns it."""
    text = ''
    limit = time.monotonic() + seconds
    while not re.search(end + r'$', text):
      assert time.monotonic() < limit, text
      if select.select([self._ours], [], [], 1)[0]:
        try:
          text += os.read(self._ours, 4096).decode()
        except OSError:  # The other side is closed.
          break
    return text.replace('\r\n', '\n')

  def type(self, text: str) -> None:
    os.write(self._ours, text.encode())

  def close(self) -> None:
    self.process.kill()
    self.process.wait()
    os.close(self._ours)


def test_a_conversation_in_a_terminal(project):
  terminal = Terminal(_command(project, '--max_length=4'))
  try:
    assert 'checkpoint_1: /reset forgets' in terminal.until('> ')
    alone = _piped(project, '--max_length=4', 'Two?')[1]
    terminal.type('Two?\n')
    first = terminal.until('> ')
    assert first == f'Two?\n{alone}> '
    terminal.type('/rest\n')
    assert '/rest is none of /quit, /reset' in terminal.until('> ')
    terminal.type('\n')
    assert terminal.until('> ') == '\n> '
    # The model reads 24 bytes: what was said fits before the next prompt.
    joined = f'Two?\n\n{alone.strip()}\n\nAnd?'
    assert len(joined.encode()) < 24
    terminal.type('And?\n')
    wanted = _piped(project, '--max_length=4', joined)[1]
    assert terminal.until('> ') == f'And?\n{wanted}> '
    terminal.type('/reset\n')
    terminal.until('> ')
    terminal.type('Two?\n')
    assert terminal.until('> ') == first
    terminal.type('/quit\n')
    assert terminal.process.wait(timeout=60) == 0
  finally:
    terminal.close()


@pytest.mark.parametrize(('typed', 'code'), [('\x04', 0), ('\x03', 130)])
def test_a_conversation_ends_with_the_keyboard(project, typed, code):
  terminal = Terminal(_command(project))
  try:
    terminal.until('> ')
    found = None
    for _ in range(10):
      # Python loses a signal that comes just before it waits for a line.
      terminal.type(typed)
      with contextlib.suppress(subprocess.TimeoutExpired):
        found = terminal.process.wait(timeout=10)
        break
    assert found == code
  finally:
    terminal.close()


def test_an_interrupt_stops_the_answer_alone(monkeypatch, capsys):
  class Stopped(Model):

    def stream(self, prompt, decoding):
      yield 'I '
      os.kill(os.getpid(), signal.SIGINT)
      time.sleep(5)
      yield 'never'

  typed = iter(['one?', 'two?', '/quit'])
  model = Stopped()
  answerer = ask.Answerer(model, settings.Decoding())
  history, _ = _history(64)
  monkeypatch.setattr('builtins.input', lambda *_: next(typed))
  assert ask.converse(answerer, history) == 0
  said = capsys.readouterr()
  assert said.out == 'I \nI \n'
  assert said.err.count('stopped; this prompt is forgotten') == 2
  assert history.prompt('x') == 'x'


def test_the_flags_of_decoding_are_those_of_infer():
  args = cli.parse(['ask', '--num_beams=3', '--max_length=9', 'x'])
  assert args.gin_bindings == [
      'Decoding.method=beam',
      'Decoding.num_beams=3',
      'Decoding.max_length=9',
  ]
