"""T5's vocabularies: ids of transformers, what is lost, and what is kept."""

import io
import itertools
import json
import pathlib
import pickle
import re

from flan_jax import errors
from flan_jax import storage
from flan_jax import vocabularies
from flan_jax.checkpoints import runs
from flan_jax.models import config as config_lib
from flan_jax.vocabularies import exporting
from flan_jax.vocabularies import literals
from flan_jax.vocabularies import losses
from hypothesis import example
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest
import sentencepiece

_KEEP = '?keep=newline,tab,spaces,braces'
_FILES = ('gsm8k/train.jsonl', 'self_instruct/seed_tasks.jsonl')
_LAYOUT = 'if x {\n\ty\n}\n\nelse  {z}'


def _texts(value) -> list[str]:
  if isinstance(value, str):
    return [value]
  if isinstance(value, dict):
    value = list(value.values())
  return (
      [t for each in value for t in _texts(each)]
      if isinstance(value, list)
      else []
  )


@pytest.fixture(scope='session')
def real(shared) -> list[str]:
  """10,000 texts of the real data, whole documents and single lines."""
  found = []
  for path in sorted((shared / 'data').rglob('*.json*')):
    with path.open(encoding='utf-8', errors='replace') as file:
      for line in itertools.islice(file, 400):
        try:
          found += _texts(json.loads(line))
        except ValueError:
          break  # Not JSON Lines.
  found = list(dict.fromkeys(found))
  assert len(found) > 10_000
  return found[:: len(found) // 10_000][:10_000]


@pytest.fixture(scope='session')
def folder(tmp_path_factory) -> pathlib.Path:
  """A folder of Hugging Face's whose model has the properties of T5's.

  It is normalised by nmt_nfkc, white space is collapsed, there is no spelling
  in bytes, and no braces were in the texts that it learned from.
  """
  words = [
      f'{a}{b}{c}'
      for a in ('ka', 'tro', 'mi', 'the', 'Un')
      for b in ('', 'l', 'ster', 'ing', 'ä')
      for c in ('s', 'en', ',', '.', '?', '-1', '2', "'t")
  ]
  texts = [' '.join(words[i : i + 7]) for i in range(len(words) - 7)]
  texts += ['The quick brown fox jumps over the lazy dog; 34567890!'] * 3
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(texts),
      model_writer=model,
      model_type='unigram',
      vocab_size=220,
      normalization_rule_name='nmt_nfkc',
      pad_id=0,
      eos_id=1,
      unk_id=2,
      bos_id=-1,
      hard_vocab_limit=False,
      num_threads=1,
      minloglevel=2,
  )
  made = tmp_path_factory.mktemp('t5')
  (made / 'spiece.model').write_bytes(model.getvalue())
  return made


def _transformers(folder: pathlib.Path, vocabulary):
  """Returns transformers' tokenizer of what is exported of a vocabulary."""
  import transformers

  folder.mkdir(exist_ok=True)
  for name, content in exporting.huggingface_files(vocabulary).items():
    (folder / name).write_bytes(content)
  found = transformers.AutoTokenizer.from_pretrained(folder)
  assert isinstance(found, transformers.T5Tokenizer)
  assert len(found) == vocabulary.size
  return found


@pytest.fixture(scope='session', params=['', _KEEP])
def both(request, folder):
  """Our vocabulary and transformers', alone and with what is kept."""
  ours = vocabularies.load(f'{folder}{request.param}')
  name = 'kept' if request.param else 'plain'
  return ours, _transformers(folder.parent / f'{folder.name}_{name}', ours)


def _theirs(tokenizer, texts):
  return tokenizer(texts, add_special_tokens=False).input_ids


def test_ids_of_real_texts_are_those_of_transformers(both, real):
  ours, theirs = both
  for text, found, wanted in zip(
      real, ours.encode_batch(real), _theirs(theirs, real), strict=True
  ):
    assert found == wanted, text


_SPECIAL = (
    '</s>', '<pad>', '<unk>', '<extra_id_0>', '<extra_id_7>', '<extra_id_99>',
    '<extra_id_100>', '<s>', '\n', '\t', '  ', '{', ' }', 'ä', 'ﬁ', '\u3000',
    '\u2581', '\ufeff', '\u200b', '…', 'の', '😀', 'mister', ' ',
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(_SPECIAL),
            st.text(st.characters(exclude_categories=['Cs', 'Cc']), max_size=8),
        ),
        max_size=8,
    ).map(''.join)
)
@example('a<extra_id_7>b </s>c')
@example('')
def test_ids_are_those_of_transformers(both, text):
  ours, theirs = both
  assert ours.encode(text) == _theirs(theirs, text)


def test_a_tokenizer_json_has_t5s_ids_too(both, real, tmp_path):
  ours, theirs = both
  theirs.save_pretrained(tmp_path)
  assert not (tmp_path / 'spiece.model').exists()
  found = vocabularies.load(tmp_path)
  assert (found.pad_id, found.eos_id, found.unk_id) == (0, 1, 2)
  assert found.size == ours.size
  some = real[::100]
  assert found.encode_batch(some) == ours.encode_batch(some)
  text = 'the quick brown fox'
  assert found.decode([*found.encode(text), 1, 5]) == text


def test_tokens_that_a_text_spells_out(folder):
  vocabulary = vocabularies.load(folder)
  size = vocabulary.size
  ids = vocabulary.encode('the<extra_id_0>the</s> <pad><extra_id_7>')
  the = vocabulary.encode('the')
  assert ids == [*the, size - 1, *the, 1, 0, size - 8]


def test_a_model_with_sentinels_gets_no_more(folder, tmp_path):
  from flan_jax import sentencepiece_models

  plain = (folder / 'spiece.model').read_bytes()
  path = tmp_path / 'mt5.model'
  path.write_bytes(plain + sentencepiece_models.sentinels(100))
  theirs = vocabularies.load(folder)
  ours = vocabularies.load(path)
  assert (ours.size, ours.extra_ids) == (theirs.size, 0)
  text = 'the <extra_id_3>the'
  assert ours.encode(text) == theirs.encode(text)


def test_what_is_kept_comes_back(folder):
  kept = vocabularies.load(f'{folder}{_KEEP}')
  plain = vocabularies.load(folder)
  assert plain.round_trip('the\nfox') == 'the fox'
  assert kept.round_trip('the\nfox') == 'the\nfox'
  ids = kept.encode('the\n\tfox {the}')
  assert kept.decode(ids) == 'the\n\tfox {the}'
  assert kept.size == plain.size + 11
  # Ids of all else are those of the model that it was trained from.
  assert kept.encode('the fox') == plain.encode('the fox')
  assert max(plain.encode('the\n{')) < plain.size <= max(ids)
  assert pickle.loads(pickle.dumps(kept)).encode(_LAYOUT) == kept.encode(
      _LAYOUT
  )
  assert kept.describe()['sha256'] != plain.describe()['sha256']
  assert kept.describe()['keep'] == ['newline', 'tab', 'spaces', 'braces']
  # The order of the names is not that of the ids.
  again = vocabularies.load(f'{folder}?keep=braces,spaces,tab,newline')
  assert again.describe() == kept.describe()


_KNOWN = st.sampled_from(['the', 'fox', '\n', '\t', '{', '}', ' {', '} ', '  '])


@settings(deadline=None)
@given(st.lists(_KNOWN).map(''.join))
def test_layout_of_any_kind_comes_back(folder, text):
  kept = vocabularies.load(f'{folder}{_KEEP}')
  # A single space beside a line break or another space has no token.
  text = re.sub(r'(?<=[\n\t ]) +|^ +| +(?=[\n\t])| +$', '', text)
  assert kept.round_trip(text) == text


def test_a_run_records_what_it_keeps(folder, tmp_path):
  spec = f'{folder}{_KEEP}'
  config = config_lib.EncoderDecoderConfig(
      vocab_size=384, emb_dim=8, num_heads=2, head_dim=4, mlp_dim=8,
      num_encoder_layers=1, num_decoder_layers=1,
  )  # fmt: skip
  vocabulary = vocabularies.load(spec)
  runs.write(tmp_path, config, vocabulary, spec, {})
  found = runs.read_vocabulary(tmp_path)
  assert found.encode(_LAYOUT) == vocabulary.encode(_LAYOUT)
  assert runs.read(tmp_path)['vocabulary']['keep'] == list(vocabulary.keep)


@pytest.mark.parametrize(
    ('keep', 'message'),
    [
        ('newlines', "'newlines' is none of newline.*Did you mean"),
        ('tab,tab', 'once at most'),
    ],
)
def test_what_cannot_be_kept(folder, keep, message):
  with pytest.raises(errors.UserError, match=message):
    vocabularies.load(f'{folder}?keep={keep}')


def test_a_lossless_model_keeps_all_anyway(root):
  model = root / 'mixtures' / 'mini' / 'mini.model'
  with pytest.raises(errors.UserError, match='loses nothing'):
    vocabularies.load(f'{model}?keep=tab')


def test_all_that_can_be_kept_has_room():
  names = ('newline', 'tab', 'spaces', 'braces')
  assert len(literals.tokens(names, 'x')) <= 32_128 - 32_100


def test_seqio_cannot_keep(folder):
  pytest.importorskip('seqio')
  from flan_jax.data import seqio_bridge

  with pytest.raises(errors.UserError, match='SeqIO.* cannot keep newline'):
    seqio_bridge.seqio_vocabulary(vocabularies.load(f'{folder}{_KEEP}'))


def test_losses_are_counted(folder, root):
  texts = ['the\n\nfox', '{fox} the fox', 'the']
  lost, total = losses.counts(vocabularies.load(folder), texts)
  assert dict(lost) == {'\n': 2, '{': 1, '}': 1}
  assert total == sum(map(len, texts))
  line = losses.notice(vocabularies.load(folder), 'sums', texts)
  assert f'loses {4 / total:.2%} of the characters of sums' in line
  assert f'line breaks {2 / total:.2%}' in line
  assert '?keep=newline,braces' in line
  assert '\n' not in line
  for spec in (
      f'{folder}?keep=newline,braces',
      'bytes',
      root / 'mixtures' / 'mini' / 'mini.model',
  ):
    assert losses.notice(vocabularies.load(spec), 'sums', texts) is None


def test_a_model_in_a_bucket(folder, monkeypatch):
  content = (folder / 'spiece.model').read_bytes()

  class Bucket:

    def __init__(self, address):
      assert str(address) == 'gs://vocabularies/t5.model'
      self.name = 't5.model'

    def __str__(self):
      return 'gs://vocabularies/t5.model'

    def is_dir(self):
      return False

    def read_bytes(self):
      return content

  monkeypatch.setattr(storage, 'check', lambda *_: None)
  monkeypatch.setattr(storage, 'path', Bucket)
  found = vocabularies.load('gs://vocabularies/t5.model')
  assert found.encode('the fox')


@pytest.mark.parametrize(('spec', 'says'), [('', True), ('bytes', False)])
def test_training_says_what_is_lost(folder, make_project, capsys, spec, says):
  from flan_jax import cli
  from flan_jax import train
  from flan_jax import training_data
  from flan_jax.data import access as access_lib

  project = make_project(f"TRAIN_STEPS = 1\nVOCABULARY = '{spec or folder}'\n")
  args = cli.parse(project.arguments('run'))
  loaded = train.load(args.gin_file, args.gin_bindings, args.gin_search_paths)
  data = training_data.TrainingData(
      loaded.settings, access_lib.Access.from_args(args)
  )
  data.prepare()
  said = capsys.readouterr().err
  # The model has learned no '+' and no '='.
  found = re.search(r'loses (\d+\.\d\d)% of the characters of sums .*', said)
  assert bool(found) == says
  if found:
    assert 5 < float(found[1]) < 30
    assert "'+' " in found[0]
    assert 'keep' not in found[0]  # There is no name for these.
