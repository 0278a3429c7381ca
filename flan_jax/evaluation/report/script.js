'use strict';
// The browser of predictions and the folding tables. Whatever a model wrote
// goes into the page as text (textContent), never as markup. The choice of
// filters is in the address after '#', so that a view can be shared.
(() => {
  const PAGE = 10;
  const data = JSON.parse(document.getElementById('data').textContent);
  const byId = (id) => document.getElementById(id);
  const make = (tag, text, name) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (name) element.className = name;
    return element;
  };

  // Tables: the rows of a dataset's templates fold away under it.
  const folds = [...document.querySelectorAll('.fold')];
  const fold = (button, open) => {
    button.setAttribute('aria-expanded', String(open));
    for (const row of button.closest('tbody').querySelectorAll('.template')) {
      row.hidden = !open;
    }
  };
  for (const button of folds) {
    fold(button, false);
    button.addEventListener('click', () => {
      fold(button, button.getAttribute('aria-expanded') !== 'true');
    });
  }
  const unfold = byId('unfold');
  unfold.hidden = folds.length === 0;
  unfold.addEventListener('click', () => {
    const open = unfold.getAttribute('aria-expanded') !== 'true';
    unfold.setAttribute('aria-expanded', String(open));
    unfold.textContent = open ? 'Hide templates' : 'Show every template';
    for (const button of folds) fold(button, open);
  });

  // Predictions.
  const models = Object.keys(data.models);
  const state = { verdict: 'all', model: '', dataset: '', group: '', text: '' };
  let shown = PAGE;
  const said = (sample, system) => sample.answers[system];
  // Whose answers are right or wrong.
  const model = () => state.model || models[0];
  const judged = (sample) => said(sample, model());
  const verdicts = {
    all: () => true,
    right: (sample) => judged(sample).right,
    wrong: (sample) => !judged(sample).right,
    gained: (sample) => {
      const before = said(sample, data.models[model()]);
      return judged(sample).right && before && !before.right;
    },
  };
  const texts = (sample) => [
    sample.inputs,
    ...sample.references,
    ...Object.values(sample.answers).map((answer) => answer.text),
  ];
  const matches = (sample) =>
    verdicts[state.verdict](sample) &&
    (!state.dataset || sample.dataset === state.dataset) &&
    (!state.group || sample.group === state.group) &&
    (!state.text || texts(sample).some(
      (text) => text.toLowerCase().includes(state.text.toLowerCase())));

  // How likely the chosen option is among the options alone.
  const share = (answer) => {
    if (!answer.option_scores || answer.option_index < 0) return '';
    const scores = answer.option_scores.map((score) => score ?? -Infinity);
    const best = Math.max(...scores);
    const parts = scores.map((score) => Math.exp(score - best));
    const own = parts[answer.option_index];
    return `${Math.round(100 * own / parts.reduce((sum, p) => sum + p, 0))}%`;
  };
  const addAnswer = (list, name, answer) => {
    list.append(make('dt', name));
    const value = answer.text ?
      make('dd', answer.text) : make('dd', 'nothing', 'empty');
    const percent = share(answer);
    if (percent) {
      const note = make('span', ` ${percent}`, 'share');
      note.title = "its share of the options' probability";
      value.append(note);
    }
    if (answer.right !== undefined) {
      const mark = make(
        'span', answer.right ? ' ✓' : ' ✗', answer.right ? 'ok' : 'no');
      mark.title = answer.right ? 'right' : 'wrong';
      value.append(mark);
    }
    list.append(value);
  };
  const card = (sample) => {
    const own = judged(sample);
    const item = make('li', undefined, `card ${own.right ? 'right' : ''}`);
    const header = make('header');
    header.append(
      make('h3', sample.dataset),
      make('span', sample.template || 'no template'),
      make('span', data.groups[sample.group]),
      make('span', own.right ? '✓ right' : '✗ wrong', 'mark'));
    const inputs = make('pre', sample.inputs);
    inputs.tabIndex = 0;
    const answers = make('dl', undefined, 'answers');
    addAnswer(answers, sample.references.length > 1 ? 'Accepted' : 'Answer',
      { text: sample.references.join(' | ') });
    for (const [system, answer] of Object.entries(sample.answers)) {
      addAnswer(answers, data.systems[system], answer);
    }
    item.append(header, inputs, answers);
    return item;
  };

  const draw = () => {
    const found = data.samples.filter(matches);
    byId('cards').replaceChildren(...found.slice(0, shown).map(card));
    byId('count').textContent = found.length === 0 ?
      'No prediction fits.' :
      `${Math.min(shown, found.length)} of ${found.length} predictions shown`;
    byId('more').hidden = found.length <= shown;
    for (const button of document.querySelectorAll('[data-verdict]')) {
      button.setAttribute(
        'aria-pressed', String(button.dataset.verdict === state.verdict));
    }
    byId('model').value = model();
    byId('dataset').value = state.dataset;
    byId('group').value = state.group;
    if (byId('text').value !== state.text) byId('text').value = state.text;
  };
  const change = (changes) => {
    Object.assign(state, changes);
    shown = PAGE;
    const kept = Object.entries(state)
      .filter(([key, value]) => value && value !== (key === 'verdict' && 'all'));
    const hash = new URLSearchParams(kept).toString();
    // replaceState is refused for files in some browsers; the view still works.
    try {
      history.replaceState(null, '', hash ? `#${hash}` : '#samples');
    } catch (error) {
      if (error.name !== 'SecurityError') throw error;
    }
    draw();
  };
  const readHash = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const key of Object.keys(state)) state[key] = given.get(key) ?? '';
    if (!Object.hasOwn(verdicts, state.verdict)) state.verdict = 'all';
    if (!models.includes(state.model)) state.model = '';
    if (!data.datasets.includes(state.dataset)) state.dataset = '';
    if (!Object.hasOwn(data.groups, state.group)) state.group = '';
    shown = PAGE;
    draw();
    if ([...given.keys()].some((key) => Object.hasOwn(state, key))) {
      byId('samples').scrollIntoView();
    }
  };

  byId('model').append(
    ...models.map((name) => new Option(data.systems[name], name)));
  byId('model-label').hidden = models.length < 2;
  byId('model').addEventListener(
    'change', (event) => change({ model: event.target.value }));
  byId('dataset').append(
    new Option('all', ''),
    ...data.datasets.map((name) => new Option(name, name)));
  byId('group').append(
    new Option('all', ''),
    ...Object.entries(data.groups).map(
      ([key, name]) => new Option(name, key)));
  for (const button of document.querySelectorAll('[data-verdict]')) {
    button.hidden = button.dataset.verdict === 'gained' &&
      !Object.values(data.models).some((untuned) => untuned);
    button.addEventListener(
      'click', () => change({ verdict: button.dataset.verdict }));
  }
  byId('dataset').addEventListener(
    'change', (event) => change({ dataset: event.target.value }));
  byId('group').addEventListener(
    'change', (event) => change({ group: event.target.value }));
  byId('text').addEventListener(
    'input', (event) => change({ text: event.target.value }));
  byId('filters').addEventListener(
    'submit', (event) => event.preventDefault());
  byId('more').addEventListener('click', () => {
    shown += PAGE;
    draw();
  });
  window.addEventListener('hashchange', readHash);
  byId('browser').hidden = false;
  readHash();
})();
