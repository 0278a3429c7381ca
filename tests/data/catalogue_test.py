"""Finding declarations by name, lazily."""

import json
import re
import textwrap

from flan_jax import datasets
from flan_jax import errors
from flan_jax import paths
from flan_jax.data import catalogue
from flan_jax.data import mixtures
from flan_jax.data import specs
import pytest

_DATASET = """
version: 1
cluster: toys
source: {jsonl: x.jsonl}
splits: {train: train}
fields: {a: a}
metrics: [exact_match]
templates:
- {name: ask, inputs: "?", targets: "{a}"}
"""


def _task_file(count=12):
  rows = [
      {'id': f'x-{i}', 'input': str(i), 'output': ['o']} for i in range(count)
  ]
  return json.dumps({
      'Definition': ['Do it.'],
      'Categories': ['Toy Making'],
      'Instances': rows,
  })


def test_what_comes_with_the_package():
  found = catalogue.Catalogue()
  datasets_, mixtures_ = found.dataset_names(), found.mixture_names()
  assert {'flan2021', 'mini'} <= set(mixtures_)
  assert 'rte' in datasets_ and 'blank' not in [n.lower() for n in datasets_]
  assert datasets_ == sorted(datasets_)
  assert found.is_mixture('mini') and not found.is_mixture('rte')
  assert found.dataset('rte') is found.dataset('rte')
  assert found.dataset('rte').collection == 'flan2021'


def test_every_declaration_of_the_package_loads():
  found = catalogue.Catalogue()
  for name in found.dataset_names():
    dataset = found.dataset(name)
    assert dataset.name == name
    # The folders say the same as the file: collection, then cluster.
    parts = dataset.path.relative_to(paths.mixtures_dir()).parts
    assert parts == (dataset.collection, dataset.cluster, f'{name}.yaml')
  for name in found.mixture_names():
    assert found.mixture(name).name == name


def test_files_and_folders_of_the_user(declare, tmp_path):
  one = declare('alone/toy_one.yaml', _DATASET)
  declare('many/deep/er/toy_two.yaml', _DATASET)
  declare('many/toy_mix.yml', 'version: 1\nmembers: [toy_one]\n')
  declare('many/notes.txt', 'not a declaration')
  found = catalogue.Catalogue([one, tmp_path / 'many'])
  assert {'toy_one', 'toy_two'} <= set(found.dataset_names())
  assert 'toy_mix' in found.mixture_names()
  assert found.dataset('toy_one').collection == 'alone'
  assert found.dataset('toy_two').collection == 'many'
  assert found.select(collection='many') == ['toy_two']
  assert found.select(collection='many', cluster='toys') == ['toy_two']
  assert found.select(cluster='toys') == ['toy_one', 'toy_two']


def test_nothing_is_read_before_it_is_asked_for(declare, tmp_path):
  declare('toy_good.yaml', _DATASET)
  broken = declare('toy_broken.yaml', _DATASET.replace('cluster', 'clutser'))
  (tmp_path / 'task001_broken.json').write_text('{"Instances": [}')
  found = catalogue.Catalogue([tmp_path])
  assert {'toy_broken', 'task001_broken'} <= set(found.dataset_names())
  assert found.dataset('toy_good').name == 'toy_good'
  with pytest.raises(errors.UserError, match=f'{broken}:2: clutser: unknown'):
    found.dataset('toy_broken')
  with pytest.raises(errors.UserError, match='task001_broken.json: not valid'):
    found.dataset('task001_broken')


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('rtee', "unknown task or mixture 'rtee'. Did you mean rte"),
        ('mini', "'mini' is a mixture, not a dataset"),
    ],
)
def test_names_that_are_no_dataset(name, message):
  with pytest.raises(errors.UserError, match=re.escape(message)):
    catalogue.Catalogue().dataset(name)


def test_a_dataset_is_no_mixture():
  with pytest.raises(errors.UserError, match="'rte' is a dataset, not a mixt"):
    catalogue.Catalogue().mixture('rte')


def test_the_same_name_twice_names_both_files(declare, tmp_path):
  first = declare('a/toy.yaml', _DATASET)
  second = declare('b/toy.yaml', _DATASET)
  with pytest.raises(errors.UserError) as caught:
    catalogue.Catalogue([tmp_path / 'a', second])
  assert f'declared twice: in {first} and in {second}' in str(caught.value)
  # The same file by two routes is one declaration.
  twice = catalogue.Catalogue([tmp_path / 'a', first])
  assert twice.dataset('toy').path == first
  with pytest.raises(errors.UserError, match="'rte' is declared twice: in "):
    catalogue.Catalogue([declare('c/rte.yaml', _DATASET)])


def test_paths_that_hold_nothing(tmp_path, declare):
  with pytest.raises(errors.UserError, match='there is no such file or folder'):
    catalogue.Catalogue([tmp_path / 'nowhere'])
  with pytest.raises(errors.UserError, match='holds no YAML declarations'):
    catalogue.Catalogue([tmp_path])
  with pytest.raises(errors.UserError, match='must be a YAML declaration'):
    catalogue.Catalogue([declare('a.txt', 'a')])
  with pytest.raises(errors.UserError, match='must be a YAML declaration'):
    catalogue.Catalogue([declare('labels.json', '{}')])


def test_a_folder_of_task_files_is_a_mixture(tmp_path):
  folder = tmp_path / 'tasks'
  folder.mkdir()
  for name in ('task001_a', 'task002_B.1-c', 'task003_d'):
    (folder / f'{name}.json').write_text(_task_file())
  found = catalogue.Catalogue([folder])
  names = [n for n in found.dataset_names() if n.startswith('task')]
  assert names == ['task001_a', 'task002_b_1_c', 'task003_d']
  assert found.select(cluster='toy_making') == names
  sni = mixtures.resolve(found, 'sni')
  assert [task.name for task, _ in sni.members] == names
  with pytest.raises(errors.UserError, match="'sni' holds nothing out"):
    mixtures.resolve(found, 'sni:held_out')

  lists = tmp_path / 'splits' / 'default'
  lists.mkdir(parents=True)
  (lists / 'test_tasks.txt').write_text('task002_B.1-c\ntask999_elsewhere\n')
  found = catalogue.Catalogue([folder])
  assert [t.name for t, _ in mixtures.resolve(found, 'sni').members] == [
      'task001_a',
      'task003_d',
  ]
  held_out = mixtures.resolve(found, 'sni:held_out')
  assert [t.name for t, _ in held_out.members] == ['task002_b_1_c']


def test_one_task_file_is_a_dataset_without_a_mixture(tmp_path):
  path = tmp_path / 'task007_x.json'
  path.write_text(_task_file())
  found = catalogue.Catalogue([path])
  assert found.dataset('task007_x').source.kind == 'sni'
  assert 'sni' not in found.mixture_names()


def test_the_real_task_files(shared):
  folder = shared / 'data' / 'sni' / 'tasks'
  found = catalogue.Catalogue([folder])
  held_out = mixtures.resolve(found, 'sni:held_out').members
  members = mixtures.resolve(found, 'sni').members
  # SOURCE.md: 59 tasks, of which 6 are in the official test list.
  assert (len(members), len(held_out)) == (53, 6)
  official = (shared / 'data/sni/splits/default/test_tasks.txt').read_text()
  assert {t.dataset.name for t, _ in held_out} <= set(official.split())


@pytest.fixture
def registry(monkeypatch):
  monkeypatch.setattr(catalogue, '_REGISTERED', {})


def _python_dataset(**kwargs):
  values = {
      'name': 'toy_python',
      'cluster': 'toys',
      'source': datasets.Source(kind='generated', where='my_module:rows'),
      'splits': {'train': 'train'},
      'fields': {'a': 'a'},
      'metrics': ('exact_match',),
      'templates': (
          datasets.Template(name='ask', inputs='{a}?', targets='{a}'),
      ),
  }
  return datasets.Dataset(**(values | kwargs))


def test_datasets_declared_in_python(registry, declare, tmp_path):
  dataset = _python_dataset(collection='mine')
  datasets.register(dataset)
  found = catalogue.Catalogue()
  assert found.dataset('toy_python') is dataset
  assert found.select(collection='mine') == ['toy_python']
  again = _python_dataset(version=2)
  datasets.register(again)
  assert catalogue.Catalogue().dataset('toy_python') is again
  path = declare('toy_python.yaml', textwrap.dedent(_DATASET))
  with pytest.raises(errors.UserError, match='declared in Python and in '):
    catalogue.Catalogue([path])


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'name': 'Toy'}, "'Toy' cannot be a dataset's name"),
        ({'metrics': ('bleu4',)}, "metrics[0]: unknown metric 'bleu4'"),
        ({'templates': ()}, 'templates: needs at least one template'),
        (
            {'source': specs.Source(kind='excel', where='x')},
            "source: unknown kind 'excel'",
        ),
        (
            {'source': specs.Source(kind='csv', where='x', options={'a': 'b'})},
            "source.a: unknown option 'a'",
        ),
    ],
)
def test_a_wrong_declaration_in_python(registry, values, message):
  with pytest.raises(errors.UserError, match=re.escape(message)):
    datasets.register(_python_dataset(**values))
