"""One HTML file that shows an evaluation: numbers, chart, predictions.

The page asks nothing of the network: style, script and data are inside.
"""

from collections.abc import Mapping, Sequence
import html
import importlib.resources
import json
import re
from typing import Any

from flan_jax.evaluation import summary
from flan_jax.evaluation import systems as systems_lib
from flan_jax.evaluation import table
from flan_jax.evaluation.report import figures
from flan_jax.evaluation.report import look
from flan_jax.evaluation.report import tables

_MARK = re.compile(r'\[\[(\w+)\]\]')
_KIND = {
    'held_out_template': 'held-out template',
    'held_out_dataset': 'held-out dataset',
    'seen': 'trained template',
}
_HOW = {'rank': 'ranked options', 'generate': 'written text'}


def render(
    results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]
) -> str:
  """Returns the page.

  Args:
    results: What `results.json` holds.
    samples: Lines of the predictions file, those that the page shows.
  """
  systems = look.shown(results['systems'])
  compared = look.compared(systems, results['systems'])
  files = importlib.resources.files(__package__)
  heading = ' and '.join(results['mixtures'])
  parts = {
      'title': f'{html.escape(heading)}: evaluation',
      'heading': html.escape(heading),
      'lead': _lead(results),
      'warnings': ''.join(
          f'<p class="warning">{html.escape(line)}</p>'
          for line in table.warnings(results)
      ),
      'headline': _headline(results, systems),
      'chart_note': (
          'Mean over the datasets of a cluster of their main metric, in'
          ' percent (correlations times 100); every dataset and template counts'
          ' the same. Lines are 95% intervals over test rows.'
      ),
      'legend': ''.join(
          f'<li><i class="{each.swatch}"></i>{html.escape(each.title)}</li>'
          for each in compared
      ),
      'charts': figures.clusters(results['clusters'], compared),
      'scaling': figures.scaling(results, systems),
      'templates': figures.templates(
          results, [each for each in compared if each.kind != 'majority']
      ),
      'settings': tables.settings(results, systems),
      'published': tables.published(results, systems),
      'tables': tables.by_dataset(results, systems),
      'samples_note': _samples_note(results, samples),
      'predictions': html.escape(results['predictions']),
      'method': _method(results),
      'data': _data(results, samples, systems),
  }
  for name, file in (('style', 'style.css'), ('script', 'script.js')):
    parts[name] = files.joinpath(file).read_text(encoding='utf-8')
  page = files.joinpath('page.html').read_text(encoding='utf-8')
  # One pass: what is put in is not searched for marks again.
  return _MARK.sub(lambda match: parts[match[1]], page)


def _lead(results: Mapping[str, Any]) -> str:
  described = results['systems']
  models = systems_lib.tuned(described)
  tasks = [task for task in results['tasks'] if not task['setting']]
  datasets = len({task['dataset'] for task in tasks})
  without = ', '.join(results['left_out'])
  less = (
      f' Left out, for want of rows: {html.escape(without)}.' if without else ''
  )
  others = ''
  if results['settings']:
    main, *beside = (
        table.setting_title(setting, results['shots'])
        for setting in ('', *results['settings'])
    )
    others = f' Prompts: {main}; beside them {", ".join(beside)}.'
  if len(models) == 1:
    facts = described[models[0]]
    who = (
        f'<code>{html.escape(str(facts["checkpoint"]))}</code>, step'
        f' {facts["step"]:,}'
    )
  else:
    who = f'{len(models)} checkpoints'
  return (
      f'{who}, on the {html.escape(results["split"])} split of'
      f' {tables.count(datasets, "dataset")} under'
      f' {tables.count(len(tasks), "template")}:'
      f' {tables.count(sum(task["examples"] for task in tasks), "example")}.'
      f'{others}{less}'
  )


def _headline(results: Mapping[str, Any], systems: Sequence[look.Shown]) -> str:
  """A tile for each group: the model large, the others below."""
  models = look.models(systems)
  tiles: list[str] = []
  for group, parts in results['headline'].items():
    first = ' first' if not tiles else ''
    body = (
        _one_model(parts, models[0], systems)
        if len(models) == 1
        else _many_models(parts['all'], models, results['systems'])
    )
    tiles.append(
        f'<div class="tile{first}"><h3>{summary.GROUPS[group]}</h3>{body}</div>'
    )
  note = (
      '<p>Accuracy where options are ranked, exact match where text is'
      ' written; mean over datasets.</p>'
  )
  return f'{note}<div class="tiles">{"".join(tiles)}</div>'


def _one_model(
    parts: Mapping[str, Any], model: look.Shown, systems: Sequence[look.Shown]
) -> str:
  means = parts['all']
  score = means['scores'][model.system]
  rows = [_term('95% interval', _interval(means['intervals'][model.system]))]
  best = means['best'].get(model.system)
  if best is not None:
    rows.append(_term('Best templates', f'{best:.1f}'))
  for each in systems:
    if each is model:
      continue
    other = means['scores'][each.system]
    lead = _interval(means['leads'][model.system][each.system])
    rows.append(
        _term(
            html.escape(each.title),
            f'{other:.1f} <span class="delta">({score - other:+.1f} for'
            f' {html.escape(model.title.lower())})<small>{lead}</small></span>',
        )
    )
  for part, name in _HOW.items():
    if part in parts and len(parts) > 2:
      datasets = tables.count(parts[part]['datasets'], 'dataset')
      rows.append(
          _term(
              f'{html.escape(model.title)}, {name}',
              f'{parts[part]["scores"][model.system]:.1f} <span'
              f' class="delta">· {datasets}</span>',
          )
      )
  return (
      f'<p class="big">{score:.1f}<small> % right,'
      f' {html.escape(model.title.lower())}</small></p>'
      f'<dl>{"".join(rows)}</dl>'
  )


def _many_models(
    means: Mapping[str, Any],
    models: Sequence[look.Shown],
    described: Mapping[str, Any],
) -> str:
  rows = ''
  for each in models:
    score = means['scores'][each.system]
    around = _interval(means['intervals'][each.system])
    text = f'<strong>{score:.1f}</strong> <span class="delta">{around}'
    untuned = described[each.system].get('untuned')
    if untuned:
      lead = _interval(means['leads'][each.system][untuned])
      text += (
          f'<small>{score - means["scores"][untuned]:+.1f} over untuned'
          f' {lead}</small>'
      )
    name = f'<i class="swatch {each.swatch}"></i>{html.escape(each.title)}'
    rows += _term(name, f'{text}</span>')
  return f'<dl>{rows}</dl>'


def _term(name: str, text: str) -> str:
  return f'<div><dt>{name}</dt><dd>{text}</dd></div>'


def _interval(ends: Sequence[float]) -> str:
  return f'[{ends[0]:.1f}, {ends[1]:.1f}]'


def _samples_note(
    results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]
) -> str:
  main = [task for task in results['tasks'] if not task['setting']]
  total = sum(task['examples'] for task in main)
  file = f'<code>{html.escape(results["predictions"])}</code>'
  if len(samples) >= total:
    return f'All {tables.count(total, "prediction")}; also in {file}.'
  return (
      f'{tables.count(len(samples), "prediction")} of {total:,}, from every'
      ' template right and wrong ones alike where there are both, so the'
      f' shares here mean nothing. All are in {file}.'
  )


def _method(results: Mapping[str, Any]) -> str:
  systems = results['systems']
  titles = systems_lib.titles(systems)
  limit = results['max_examples']
  entries = {
      'Ranked options': (
          f'The answer is the option with the highest {_compared_by(results)}.'
          ' The percentage beside it is its share of the probability of all'
          ' options.'
      ),
      'Written text': (
          f'The answer is written token by token ({_decoding(results)}). Exact'
          ' match forgives white space only; SQuAD, TriviaQA and ReCoRD'
          ' metrics forgive case, punctuation and articles; the best of all'
          ' accepted answers counts. A written option counts as chosen'
          ' whatever its case, with or without a full stop.'
      ),
      'Majority class': (
          'The most frequent answer of the training split, given to every'
          ' example: the option, its place where each example has options of'
          ' its own, or the whole target text.'
      ),
      'Random choice': (
          'Any option, or where text is written any target of the training'
          ' split, by a seed. The accuracy of ranking is the expected one: the'
          ' mean of one divided by the number of options.'
      ),
      'Intervals': (
          'Percentile bootstrap: the middle'
          f' {100 * results["bootstrap"]["level"]:g}% of'
          f' {results["bootstrap"]["resamples"]:,} resamples of the test rows'
          ' (of groups of rows where a metric scores these together), the same'
          ' for all templates and systems. They say what the choice of rows'
          ' does, not another training run; with a few dozen rows they are too'
          ' narrow. Those under a difference are of the difference.'
      ),
      'Held out': (
          'A held-out template was never used in training; a held-out dataset'
          ' was not trained on at all.'
      ),
      'Rows': (
          f'{results["split"]} split, '
          + (
              'all rows'
              if limit is None
              else f'at most {limit:,} rows of a dataset'
          )
          + f', seed {results["seed"]}; the same rows under every template.'
      ),
  }
  if results['best_template']:
    entries['Best on validation'] = _best_template(results)
  for system, facts in systems.items():
    if 'checkpoint' in facts:
      entries[titles[system]] = _checkpoint(facts)
  entries['Made by'] = f'flan_jax {results["version"]}'
  items = ''.join(
      f'<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>'
      for name, text in entries.items()
  )
  return f'<dl class="method">{items}</dl>'


def _compared_by(results: Mapping[str, Any]) -> str:
  """What options are compared by, as `Eval.normalisation` has it."""
  return {
      'mean': 'log-likelihood per token',
      'pmi': 'log-likelihood, less that without the inputs',
  }.get(results['normalisation'], 'log-likelihood')


def _decoding(results: Mapping[str, Any]) -> str:
  """How answers are written: the method, and what it depends on."""
  settings = results['decoding']
  method = settings.get('method', 'greedy')
  parts = {
      'sample': ('temperature', 'top_k', 'top_p', 'seed'),
      'beam': ('num_beams', 'alpha'),
  }.get(method, ())
  return ', '.join([method, *(f'{name} {settings[name]}' for name in parts)])


def _best_template(results: Mapping[str, Any]) -> str:
  limit = results['best_template']['max_examples']
  without = results['best_template']['without']
  rows = 'all rows' if limit is None else f'at most {limit:,} rows'
  less = ''
  if without:
    less = f' Not known, for want of such rows: {", ".join(without)}.'
  return (
      'The template with which a model scores best on the validation split'
      f' ({rows} of a dataset), and its score on the {results["split"]} split,'
      f' as in FLAN.{less}'
  )


def _checkpoint(facts: Mapping[str, Any]) -> str:
  text = f'{facts["checkpoint"]}, step {facts["step"]:,}'
  if facts.get('parameters'):
    text += f', {facts["parameters"]:,} parameters'
  if facts.get('mixture'):
    clusters = tables.count(len(facts['training_clusters']), 'cluster')
    text += f', trained on {facts["mixture"]} ({clusters})'
  return text


def _data(
    results: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]],
    systems: Sequence[look.Shown],
) -> str:
  """The script's data as JSON that cannot close its own script element."""
  present = {sample['group'] for sample in samples}
  data = {
      'systems': {each.system: each.title for each in systems},
      'models': {
          each.system: results['systems'][each.system].get('untuned')
          for each in look.models(systems)
      },
      'groups': {
          group: _KIND[group] for group in summary.GROUPS if group in present
      },
      'datasets': sorted({sample['dataset'] for sample in samples}),
      'samples': samples,
  }
  text = json.dumps(data, ensure_ascii=False, separators=(',', ':'))
  # U+2028 and U+2029 are line breaks to old readers of scripts.
  for character in '<>&\u2028\u2029':
    text = text.replace(character, f'\\u{ord(character):04x}')
  return text
