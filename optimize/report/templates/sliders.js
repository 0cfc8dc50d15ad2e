"use strict";
(() => {
  const section = document.getElementById("whatif");
  if (!section) return;
  const ranks = JSON.parse(document.getElementById("data").textContent).ranks;
  const inputs = { weights: [], limits: [] };
  for (const input of section.querySelectorAll("input[type=range]")) inputs[input.dataset.kind].push(input);
  const table = document.getElementById("ranking"), pick = document.getElementById("ranking-pick");
  const most = 12;

  const element = (name, text, parent) => {
    const el = document.createElement(name);
    if (text !== undefined) el.textContent = text;
    if (parent) parent.append(el);
    return el;
  };
  const short = (value) => Number(value.toPrecision(3)).toString();

  const weight = (i) => {
    const w = ranks.weights[i], at = Number(inputs.weights[i].value);
    return at === w.at ? w.value : w.most * at / ranks.steps;
  };
  // The lax end of a limit's slider is no limit; where it stands at the start it has the study's own value.
  const bound = (i) => {
    const l = ranks.limits[i], at = Number(inputs.limits[i].value);
    if (at === l.at) return l.value;
    if (at === (l.upper ? ranks.steps : 0)) return null;
    const share = at / ranks.steps;
    return l.log ? l.low * (l.high / l.low) ** share : l.low + (l.high - l.low) * share;
  };

  const scores = (weights) => {
    const total = weights.reduce((a, b) => a + b, 0);
    return ranks.rows.map((row) => {
      let sum = 0;
      for (let i = 0; i < row.gains.length; i++) {
        const w = weights.length ? weights[i] : 1;
        if (w > 0) sum += row.gains[i] === null ? -Infinity : w * Math.log(row.gains[i]);
      }
      return Math.exp(sum / (weights.length ? total || 1 : 1));
    });
  };
  const breaks = (row, bounds) => ranks.limits.filter((l, i) => {
    if (bounds[i] === null) return false;
    const held = row.held[i];
    return held === null || (l.upper ? held[0] > bounds[i] : held[0] < bounds[i]);
  });
  const close = (row, bounds) => ranks.limits.filter((l, i) => {
    const held = row.held[i];
    return bounds[i] !== null && held !== null && held[1] <= bounds[i] && bounds[i] <= held[2] && held[1] < held[2];
  });
  const dominates = (a, b) => {
    let better = false;
    for (let i = 0; i < ranks.up.length; i++) {
      const d = ranks.up[i] ? a.values[i] - b.values[i] : b.values[i] - a.values[i];
      if (d < 0) return false;
      if (d > 0) better = true;
    }
    return better;
  };

  const order = () => {
    const weights = ranks.weights.map((_, i) => weight(i)), bounds = ranks.limits.map((_, i) => bound(i));
    const score = scores(weights);
    const rows = ranks.rows.map((row, i) => ({ row, score: score[i], broken: breaks(row, bounds), close: close(row, bounds) }));
    const kept = rows.filter((r) => !r.broken.length);
    for (const r of rows) r.front = !r.broken.length && !kept.some((other) => dominates(other.row, r.row));
    const rank = (r) => (r.front ? 0 : r.broken.length ? 2 : 1);
    rows.sort((a, b) => rank(a) - rank(b) || b.score - a.score);
    const form = rows.find((r) => rows[0].front && !r.broken.length && r.row.n === ranks.simple[rows[0].row.n]);
    if (form && form !== rows[0]) {
      form.simpleFor = rows[0].row.n;
      rows.unshift(...rows.splice(rows.indexOf(form), 1));
    }
    return rows;
  };

  const notes = (r) => [
    ...r.broken.map((l) => `breaks: ${l.metric}`),
    ...r.close.filter((l) => !r.broken.includes(l)).map((l) => `close to: ${l.metric}`),
    ...(r.simpleFor === undefined ? [] : [`not shown to be worse than trial ${r.simpleFor}, with fewer changes`]),
    ...(r.front || r.broken.length ? [] : ["another is better in everything"]),
  ].join("; ");

  const describe = () => {
    const weights = ranks.weights.map((_, i) => weight(i)), total = weights.reduce((a, b) => a + b, 0);
    inputs.weights.forEach((input, i) => {
      const share = total ? Math.round(100 * weights[i] / total) : 0;
      input.parentElement.querySelector("output").textContent = `${short(weights[i])} (${share} %)`;
    });
    inputs.limits.forEach((input, i) => {
      const l = ranks.limits[i], value = bound(i);
      input.parentElement.querySelector("output").textContent = value === null ? "no limit" : `${short(value / l.factor)}${l.unit.startsWith("×") ? "" : " "}${l.unit}`;
    });
  };

  const show = () => {
    describe();
    const rows = order(), best = rows[0].broken.length ? null : rows[0];
    const name = (row) => (row.base ? row.settings : `trial ${row.n}: ${row.settings}`);
    pick.textContent = best ? `Best: ${name(best.row)}` : "Nothing keeps every limit.";
    pick.dataset.trial = best ? best.row.n : "";
    table.replaceChildren();
    rows.forEach((r, place) => {
      if (place >= most && !r.row.base) return;
      const tr = element("tr", undefined, table);
      if (r === best) tr.className = "chosen";
      tr.dataset.trial = r.row.n;
      element("td", r.row.base ? "defaults" : `trial ${r.row.n}`, tr);
      const cell = (label, text, number) => {
        const td = element("td", text, tr);
        td.dataset.label = label;
        if (number) td.className = "n";
        return td;
      };
      cell("Settings", r.row.settings);
      cell("Score", `${short(r.score)}×`, true);
      for (const [label, value, interval] of r.row.shown) {
        const td = cell(label, undefined, true);
        element("b", value, td);
        if (interval) element("small", interval, td);
      }
      cell("Limits", notes(r) || "all kept");
    });
  };

  const reset = () => {
    for (const kind of ["weights", "limits"]) inputs[kind].forEach((input, i) => { input.value = ranks[kind][i].at; });
    show();
  };
  section.querySelector("button.reset").addEventListener("click", reset);
  for (const input of [...inputs.weights, ...inputs.limits]) input.addEventListener("input", show);
  section.hidden = false;
  for (const link of document.querySelectorAll("nav [data-needs-script]")) link.hidden = false;
  reset();
})();
