(() => {
  'use strict';
  const data = JSON.parse(document.getElementById('data').textContent);
  const hidden = new Set();
  const short = (value) => {
    const size = Math.abs(value);
    if (size && (size >= 1e5 || size < 1e-3)) return value.toExponential(2);
    return value.toLocaleString('en', { maximumSignificantDigits: 4 });
  };

  // The legend shows and hides runs in all charts.
  for (const box of document.querySelectorAll('[data-run]')) {
    box.addEventListener('change', () => {
      const run = Number(box.dataset.run);
      if (box.checked) hidden.delete(run); else hidden.add(run);
      for (const line of document.querySelectorAll(`polyline.run-${run}`)) {
        line.classList.toggle('hidden', !box.checked);
      }
    });
  }

  // What the curves say where the pointer is: each run's nearest step.
  for (const [identity, curves] of Object.entries(data.charts)) {
    const figure = document.getElementById(identity);
    const svg = figure.querySelector('svg');
    const output = figure.querySelector('output');
    const last = Math.max(1, ...curves.flat().map(([step]) => step));
    const read = (step) => curves.flatMap((curve, run) => {
      const known = curve.filter(([, value]) => value !== null);
      if (hidden.has(run) || !known.length) return [];
      const best = known.reduce((one, other) =>
        Math.abs(other[0] - step) < Math.abs(one[0] - step) ? other : one);
      return [`${data.names[run]} ${short(best[1])}`];
    });
    svg.addEventListener('pointermove', (event) => {
      const box = svg.getBoundingClientRect();
      const share = (event.clientX - box.left) / box.width;
      const step = Math.round(last * Math.min(Math.max(share, 0), 1));
      output.textContent =
        `step ${step.toLocaleString('en')}: ${read(step).join(', ')}`;
    });
    svg.addEventListener('pointerleave', () => { output.textContent = ''; });
  }
})();
