"""The declarations hold what is known of FLAN 2021's datasets."""

import collections
import csv
import re

from flan_jax.data import catalogue
from flan_jax.data import checks
from flan_jax.data import similarity
from flan_jax.data import slots
import pytest

# The paper's names of clusters -> ours, and how many tasks of its code each
# has (figure 3's datasets, and the splits of them that the code counts apart).
_CLUSTERS = {
    'NLI': ('natural_language_inference', 10),
    'commonsense': ('commonsense', 4),
    'sentiment': ('sentiment', 4),
    'paraphrase': ('paraphrase', 4),
    'closed-book QA': ('closed_book_qa', 4),
    'struct-to-text': ('struct_to_text', 4),
    'reading comprehension': ('reading_comprehension', 6),
    'reading comprehension w/ commonsense': (
        'reading_comprehension_with_commonsense',
        2,
    ),
    'coreference': ('coreference', 4),
    'translation': ('translation', 8),
    'summarization': ('summarization', 11),
    'misc': ('misc', 9),
}
# What the table says of metrics -> ours.
_METRICS = {
    'F1 + accuracy': {'f1', 'accuracy'},
    'F1 over all answers + exact match per question group': {'multirc'},
    'Pearson + Spearman': {'pearson', 'spearman'},
    'ROUGE (t5 rouge1/2/Lsum)': {'rouge'},
    'ROUGE, max over references (GEM style)': {'rouge'},
    'accuracy': {'accuracy'},
    'edit distance': {'edit_distance'},
    'exact match + F1 over aliases (t5 trivia_qa)': {'trivia_qa'},
    'macro F1 over 3 classes + accuracy': {'macro_f1', 'accuracy'},
    'sacreBLEU': {'bleu'},
    'squad EM+F1': {'squad'},
    'squad EM+F1 (deduplicated by query)': {'record'},
}
# The released code's families, and one more: SuperGLUE's WSC was made from the
# sentences of WSC273.
_FAMILIES = {
    'winograd': {'wsc', 'wsc273'},
    'squad': {'squad_v1', 'squad_v2'},
    'anli': {'anli_r1', 'anli_r2', 'anli_r3'},
    'mnli': {'mnli_matched', 'mnli_mismatched'},
    'arc': {'arc_challenge', 'arc_easy'},
    'opinion_abstracts': {
        'opinion_abstracts_idebate',
        'opinion_abstracts_rotten_tomatoes',
    },
}


@pytest.fixture(scope='module')
def datasets():
  found = catalogue.Catalogue()
  return {
      name: found.dataset(name) for name in found.select(collection='flan2021')
  }


@pytest.fixture(scope='module')
def table(shared):
  with open(shared / 'facts' / 'flan2021.csv', encoding='utf-8') as file:
    return {row['code_task']: row for row in csv.DictReader(file)}


def test_seventy_tasks_of_twelve_clusters(datasets):
  assert len(datasets) == 70
  counts = collections.Counter(d.cluster for d in datasets.values())
  assert counts == dict(_CLUSTERS.values())


def test_sixty_one_lists_of_ten_templates(datasets):
  lists = {d.templates for d in datasets.values()}
  assert len(lists) == 61
  assert {len(each) for each in lists} == {10}
  assert not any(t.held_out for each in lists for t in each)


def test_all_is_said_of_each(datasets):
  for name, dataset in datasets.items():
    assert dataset.description and dataset.licence and dataset.sample, name
    assert dataset.subcluster, name
    assert dataset.path.parent.name == dataset.cluster
    assert dataset.limits.get('train', 30000) == 30000
    assert 'test' in dataset.splits


def test_families(datasets):
  found = collections.defaultdict(set)
  for name, dataset in datasets.items():
    if dataset.family:
      found[dataset.family].add(name)
  assert found == _FAMILIES


def test_a_file_for_each_row_of_the_table(datasets, table):
  assert datasets.keys() == table.keys()


def test_clusters(datasets, table):
  for name, row in table.items():
    dataset = datasets[name]
    assert dataset.cluster == _CLUSTERS[row['paper_cluster']][0], name
    group = row['code_cluster']
    expected = 'coreference' if group.startswith('(none') else group
    assert dataset.subcluster == expected, name


def test_answers_in_class_order(datasets, table):
  for name, row in table.items():
    words = re.sub(r'\s*\(\d.*\)', '', row['answer_labels'])
    if row['task_type'].startswith('generation'):
      assert datasets[name].choices is None, name
    elif 'fixed' in row['task_type'] or name == 'stsb':
      expected = tuple(word.strip() for word in words.split('|'))
      assert datasets[name].choices.names == expected, name
    else:
      assert datasets[name].choices and not datasets[name].choices.names, name


def test_metrics(datasets, table):
  for name, row in table.items():
    expected = _METRICS[row['metric']]
    if name == 'math_dataset':
      expected = {'exact_match'}  # Its answers are no choices.
    assert expected <= set(datasets[name].metrics), name


def test_inverted_templates(datasets, table):
  for name, row in table.items():
    inverted = sum(t.inverted for t in datasets[name].templates)
    assert inverted == min(int(row['n_inverted_or_other_target']), 3), name


def test_sources_that_can_be_built(datasets, table):
  replaced = {
      'cnn_dailymail': 'cnn_dailymail:3.4.0',
      'multi_news': 'multi_news:2.1.0',
      'winogrande': 'winogrande:1.2.0',
      'wsc': 'super_glue/wsc.fixed:1.0.2',
      'paws_wiki': 'paws_wiki/labeled_final_raw:1.1.0',
      'cola': 'glue/cola:2.0.0',
      'trivia_qa': 'trivia_qa/rc.nocontext:1.1.0',
      'xsum': 'gem/xsum:1.1.0',
  }
  for name, row in table.items():
    source = datasets[name].source
    assert source.kind == 'tfds', name
    assert source.where == replaced.get(name, row['tfds_name_in_v1']), name
    manual = row['manual_download'].startswith('yes') and name != 'xsum'
    assert ('manual' in source.options) == manual, name
    assert not manual or datasets[name].alternatives, name


def test_every_template_shows_the_options(datasets):
  for name, dataset in datasets.items():
    for template in dataset.templates:
      shown = 'options' in slots.names(slots.split(template.inputs))
      if dataset.choices and not template.inverted:
        assert shown, f'{name}:{template.name}'


def test_nothing_is_wrong_in_them(datasets):
  findings = [
      str(finding)
      for dataset in datasets.values()
      for finding in checks.declaration(dataset)
  ]
  assert findings == []


def test_templates_differ_in_their_wording(datasets):
  pairs = similarity.alike(datasets.values(), similarity.NOTABLE)
  inside = [
      str(pair)
      for pair in pairs
      if pair.first.partition(':')[0] == pair.second.partition(':')[0]
  ]
  assert inside == []
