"use strict";

/* Tables: a click on the head of a column sorts by it, another one turns it round. */
(() => {
  const ABSENT = /^[–—-]?$/;
  /* A number at the start of a cell, after a sign of comparison; "1L_768d", "5gram" and dates are names. */
  const NUMBER = /^[≥≤<>~±\s]*([+\-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+\-]?\d+)?)(?![\w.\-]|,\d)/i;
  const words = new Intl.Collator(document.documentElement.lang, { numeric: true });

  const textOf = (row, column) => (row.cells[column]?.textContent ?? "").trim();

  function numberOf(text) {
    const found = NUMBER.exec(text);
    return found === null ? null : Number(found[1].replaceAll(",", "").replace("−", "-"));
  }

  /* Negative where `a` comes first: numbers before words, in a column that is one of numbers. */
  function compare(a, b, numeric) {
    const [x, y] = numeric ? [numberOf(a), numberOf(b)] : [null, null];
    if (x !== null && y !== null && x !== y) return x - y;
    if ((x === null) !== (y === null)) return x === null ? 1 : -1;
    return words.compare(a, b);
  }

  function sort(head, column) {
    const body = head.closest("table").tBodies[0];
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const rows = [...body.rows].map((row) => ({ row, text: textOf(row, column) }));
    const known = rows.filter(({ text }) => !ABSENT.test(text));
    const numeric = 2 * known.filter(({ text }) => numberOf(text) !== null).length >= known.length;
    known.sort((a, b) => sign * compare(a.text, b.text, numeric));
    body.append(...known.map(({ row }) => row), ...rows.filter(({ text }) => ABSENT.test(text)).map(({ row }) => row));
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  }

  /* Several words may break into rows, intervals where columns are many, other numbers never. */
  for (const cell of document.querySelectorAll("td")) {
    const text = cell.textContent.trim();
    if (!/\s/.test(text)) continue;
    if (numberOf(text) === null) cell.classList.add("words");
    else if (text.length > 12) cell.classList.add("interval");
  }

  for (const table of document.querySelectorAll("table")) {
    const heads = table.tHead?.rows[0]?.cells ?? [];
    [...heads].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = document.body.dataset.sort;
      const label = document.createElement("span");
      label.append(...head.childNodes);
      button.append(label);
      button.addEventListener("click", () => sort(head, column));
      head.append(button);
    });
  }
})();

/* A table that goes on to the left or to the right is marked there. */
(() => {
  function mark(frame) {
    frame.classList.toggle("more-left", frame.scrollLeft > 2);
    frame.classList.toggle("more-right", frame.scrollWidth - frame.clientWidth - frame.scrollLeft > 2);
  }
  const sizes = new ResizeObserver((changes) => changes.forEach(({ target }) => mark(target)));
  for (const frame of document.querySelectorAll(".wide")) {
    sizes.observe(frame);
    frame.addEventListener("scroll", () => mark(frame), { passive: true });
  }
})();

/* Paper shows what is folded. */
addEventListener("beforeprint", () => document.querySelectorAll("main details").forEach((fold) => { fold.open = true; }));

/* Contents: closed where they would push the text away; the section in sight is marked. */
(() => {
  const details = document.querySelector("nav details");
  if (details === null) return;
  const beside = matchMedia("(min-width: 1180px)");
  const follow = () => { details.open = beside.matches; };
  beside.addEventListener("change", follow);
  follow();
  const links = [...document.querySelectorAll("nav a")];
  const heads = links.map((link) => document.getElementById(decodeURIComponent(link.hash.slice(1))));

  function mark() {
    const passed = heads.filter((head) => head.getBoundingClientRect().top < innerHeight / 3).length;
    const end = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
    const current = links[end ? links.length - 1 : passed - 1];
    for (const link of links) {
      if (link === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }
  addEventListener("scroll", mark, { passive: true });
  mark();
})();

/* Charts: drawn for the width and the colour scheme of the screen, and again when these change. */
(() => {
  const narrow = matchMedia("(max-width: 640px)"), dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)");

  /* Sets the value at a dotted place: "xaxis.title.text". */
  function set(object, place, value) {
    const names = place.split("."), last = names.pop();
    names.reduce((inner, name) => (inner[name] ??= {}), object)[last] = value;
  }

  /* Exchanges the colours of a chart, wherever a field of it is one. */
  function recolour(value, colours) {
    if (value === null || typeof value !== "object") return;
    for (const [name, inner] of Object.entries(value)) {
      if (name === "meta") continue;
      if (typeof inner === "string" && /color$/.test(name)) value[name] = colours[inner] ?? inner;
      else recolour(inner, colours);
    }
  }

  function draw(figure, settings) {
    const { data, layout } = JSON.parse(figure.querySelector("script").textContent);
    if (narrow.matches) {
      for (const [place, value] of Object.entries(layout.meta.narrow)) set(layout, place, value);
    }
    if (dark.matches) recolour({ data, layout }, layout.meta.dark);
    if (touch.matches) layout.dragmode = false; /* A finger that drags wants to scroll the page. */
    return Plotly.react(figure.querySelector(".plot"), data, layout, settings);
  }

  function show(figure, settings) {
    const fallBack = (error) => { figure.classList.remove("drawn"); console.error(error); };
    figure.classList.add("drawn");
    try { draw(figure, settings).catch(fallBack); } catch (error) { fallBack(error); }
  }

  const figures = [...document.querySelectorAll("figure.chart")];
  if (figures.length === 0) return;
  const settings = JSON.parse(document.querySelector("script.settings").textContent);
  for (const figure of figures) {
    const fold = figure.closest("details");
    if (fold === null) show(figure, settings);
    else fold.addEventListener("toggle", () => { if (fold.open) show(figure, settings); }); /* It has no width before. */
    const button = figure.querySelector("figcaption button");
    button.addEventListener("click", () => {
      [button.textContent, button.dataset.other] = [button.dataset.other, button.textContent];
      if (!figure.classList.toggle("swapped")) Plotly.Plots.resize(figure.querySelector(".plot"));
    });
  }
  for (const query of [narrow, dark]) {
    query.addEventListener("change", () => {
      for (const figure of figures) if (figure.closest("details:not([open])") === null) show(figure, settings);
    });
  }
})();
