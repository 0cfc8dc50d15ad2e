"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const trials = new Map(data.trials.map((t) => [String(t.n), t]));
  const tip = document.getElementById("tip");
  const plots = [...document.querySelectorAll("svg.plot")];
  const reach = 16;
  let hot = null, marks = null;

  const index = () => {
    if (marks) return marks;
    marks = new Map();
    for (const el of document.querySelectorAll("svg [data-t]")) {
      const of = marks.get(el.dataset.t) || marks.set(el.dataset.t, []).get(el.dataset.t);
      of.push(el);
    }
    return marks;
  };

  const light = (t) => {
    if (t === hot) return;
    for (const el of index().get(hot) || []) el.classList.remove("hot");
    for (const el of index().get(t) || []) el.classList.add("hot");
    hot = t;
  };

  const element = (name, text, parent) => {
    const el = document.createElement(name);
    if (text !== undefined) el.textContent = text;
    if (parent) parent.append(el);
    return el;
  };

  const describe = (t) => {
    const trial = trials.get(t);
    tip.replaceChildren();
    element("strong", `trial ${t}: ${data.kinds[trial.k]}`, tip);
    const list = element("dl", undefined, tip);
    const row = (name, value) => { element("dt", name, list); element("dd", value, list); };
    for (const [name, value] of Object.entries(trial.p)) row(name, value);
    data.objectives.forEach(([, title], i) => row(title, trial.f[i]));
    row("score", trial.s);
    for (const note of trial.w) element("p", note, tip);
    return trial;
  };

  const show = (t, x, y, pinned) => {
    const trial = describe(t);
    tip.classList.toggle("pinned", pinned);
    if (pinned && trial.r) {
      const a = element("a", "Open the MLflow run", tip);
      a.href = data.runs + trial.r; a.target = "_blank"; a.rel = "noopener";
    }
    tip.hidden = false;
    const box = tip.getBoundingClientRect(), gap = 14;
    const left = x + gap + box.width > innerWidth ? x - gap - box.width : x + gap;
    const top = y + gap + box.height > innerHeight ? y - gap - box.height : y + gap;
    tip.style.left = `${Math.max(8, Math.min(left, innerWidth - box.width - 8))}px`;
    tip.style.top = `${Math.max(8, top)}px`;
    light(t);
  };

  const hide = () => { tip.hidden = true; light(null); };

  const shown = (el) => !el.classList.contains("off");
  const segment = (px, py, a, b) => {
    const dx = b.x - a.x, dy = b.y - a.y;
    const s = Math.max(0, Math.min(1, ((px - a.x) * dx + (py - a.y) * dy) / (dx * dx + dy * dy || 1)));
    return Math.hypot(px - a.x - s * dx, py - a.y - s * dy);
  };
  const points = (el) => el._points || (el._points = el.getAttribute("d").slice(1).split("L").map((p) => {
    const [x, y] = p.split(",").map(Number);
    return { x, y };
  }));

  const nearest = (svg, event) => {
    const m = svg.getScreenCTM(), px = (event.clientX - m.e) / m.a, py = (event.clientY - m.f) / m.d;
    const max = reach / m.a;
    let best = null, least = max;
    for (const el of svg.querySelectorAll(".m[data-t]")) {
      if (!shown(el)) continue;
      const at = el.transform.baseVal[0].matrix, d = Math.hypot(at.e - px, at.f - py);
      if (d <= least) { least = d; best = el.dataset.t; }
    }
    if (best !== null || svg.querySelector(".m[data-t]")) return best;
    least = max / 2;
    for (const el of svg.querySelectorAll(".l[data-t]")) {
      if (!shown(el)) continue;
      const line = points(el);
      for (let i = 1; i < line.length; i++) {
        const d = segment(px, py, line[i - 1], line[i]);
        if (d <= least) { least = d; best = el.dataset.t; }
      }
    }
    return best;
  };

  for (const svg of plots) {
    if (!svg.querySelector("[data-t]")) continue;
    let touched = false;
    svg.addEventListener("pointerdown", (e) => { touched = e.pointerType !== "mouse"; });
    svg.addEventListener("pointermove", (e) => {
      if (e.pointerType !== "mouse" || e.buttons) return;
      const t = nearest(svg, e);
      svg.style.cursor = t === null || !trials.has(t) ? "" : "pointer";
      if (t !== null && trials.has(t)) show(t, e.clientX, e.clientY, false); else hide();
    });
    svg.addEventListener("pointerleave", (e) => { if (e.pointerType === "mouse") hide(); });
    svg.addEventListener("click", (e) => {
      const t = nearest(svg, e), trial = trials.get(t);
      if (!trial) { hide(); return; }
      if (touched || !trial.r) show(t, e.clientX, e.clientY, true);
      else if (!svg._turned) window.open(data.runs + trial.r, "_blank", "noopener");
    });
  }
  document.addEventListener("pointerdown", (e) => {
    if (!tip.hidden && !tip.contains(e.target) && !e.target.closest("svg.plot")) hide();
  });
  document.addEventListener("keydown", (e) => { if (e.key === "Escape") hide(); });

  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", on);
      for (const el of document.querySelectorAll(`#tradeoffs svg.plot .${button.dataset.kind}[data-t]`)) {
        el.classList.toggle("off", !on);
        el.style.display = on ? "" : "none";
      }
    });
  }

  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      const text = button.parentElement.querySelector("pre");
      try {
        await navigator.clipboard.writeText(text.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(text);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  for (const svg of document.querySelectorAll("svg.turns")) {
    const box = svg.viewBox.baseVal, size = 0.29 * box.height;
    const parts = [...svg.querySelectorAll("[data-p]")].map((el) => ({
      el, at: el.dataset.p.split(" ").map((p) => p.split(",").map(Number)),
    }));
    let yaw = 0.65, pitch = 0.42, from = null;
    const project = ([x, y, z]) => {
      const right = x * Math.cos(yaw) + y * Math.sin(yaw), away = y * Math.cos(yaw) - x * Math.sin(yaw);
      return [box.width / 2 + size * right, box.height / 2 - size * (z * Math.cos(pitch) + away * Math.sin(pitch))];
    };
    const draw = () => {
      for (const { el, at } of parts) {
        const [x, y] = project(at[0]);
        if (el.tagName === "text") { el.setAttribute("x", x); el.setAttribute("y", y + 4); }
        else if (el.classList.contains("l")) el.setAttribute("d", "M" + at.map((p) => project(p).join(",")).join("L"));
        else el.setAttribute("transform", `translate(${x} ${y})`);
      }
    };
    const turn = (dx, dy) => { yaw += dx; pitch = Math.max(-1.5, Math.min(1.5, pitch + dy)); draw(); };
    svg.tabIndex = 0;
    svg.addEventListener("pointerdown", (e) => { from = e; svg._turned = false; });
    addEventListener("pointermove", (e) => {
      if (!from || !e.buttons) return;
      if (Math.hypot(e.clientX - from.clientX, e.clientY - from.clientY) < 2) return;
      svg._turned = true;
      hide();
      turn((from.clientX - e.clientX) * 0.01, (e.clientY - from.clientY) * 0.01);
      from = e;
    });
    addEventListener("pointerup", () => { from = null; });
    svg.addEventListener("keydown", (e) => {
      const by = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[e.key];
      if (by) { turn(...by); e.preventDefault(); }
    });
  }

  const table = document.getElementById("every");
  const columns = [
    ["trial", (t) => t.n, (t) => t.n], ["class", (t) => data.kinds[t.k], (t) => data.kinds[t.k]],
    ...data.knobs.map((k) => [k, (t) => t.p[k] ?? "–", (t) => t.p[k] ?? "–"]),
    ...data.objectives.map(([, title], i) => [title, (t) => t.v[i], (t) => t.f[i], true]),
    ["score", (t) => parseFloat(t.s), (t) => t.s, true],
  ];
  const fill = (by, down) => {
    const key = columns[by][1], sign = down ? -1 : 1;
    const less = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
    const rows = [...data.trials].sort((a, b) => sign * less(key(a), key(b)));
    table.replaceChildren();
    const head = element("tr", undefined, element("thead", undefined, table));
    columns.forEach(([name, , , number], i) => {
      const th = element("th", name, head);
      if (number) th.className = "n";
      th.tabIndex = 0;
      if (i === by) th.ariaSort = down ? "descending" : "ascending";
      const sort = () => fill(i, i === by && !down);
      th.addEventListener("click", sort);
      th.addEventListener("keydown", (e) => { if (e.key === "Enter") sort(); });
    });
    const body = element("tbody", undefined, table);
    for (const t of rows) {
      const tr = element("tr", undefined, body);
      columns.forEach(([, , text, number], i) => {
        const td = element("td", i === 0 && t.r ? undefined : text(t), tr);
        if (number) td.className = "n";
        if (i === 0 && t.r) {
          const a = element("a", text(t), td);
          a.href = data.runs + t.r; a.target = "_blank"; a.rel = "noopener";
        }
      });
      if (t.k === "pick") tr.className = "chosen";
    }
  };
  document.querySelector("#trials details").addEventListener("toggle", (e) => { if (e.target.open && !table.rows.length) fill(0, false); });
})();
