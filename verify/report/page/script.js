"use strict";
(() => {
  const one = (query, from = document) => from.querySelector(query);
  const all = (query, from = document) => [...from.querySelectorAll(query)];
  const body = table => table.tBodies[0];
  const root = document.documentElement;
  root.classList.add("js");

  // Which input, which artifacts.
  const choose = id => {
    for (const panel of all(".panel")) panel.classList.toggle("on", panel.id === id);
    const radio = all("input[name=input]").find(each => each.value === id);
    if (radio) radio.checked = true;
  };
  const hide = box => document.body.classList.toggle("no" + box.value, !box.checked);
  for (const input of all(".controls input")) {
    input.addEventListener("change", () => (input.type === "radio" ? choose(input.value) : (hide(input), recount())));
    if (input.type === "checkbox") hide(input);
    else if (input.checked) choose(input.value);
  }

  // Sorting: a click sorts upwards, the next downwards, the third puts back.
  const collator = new Intl.Collator("en", { numeric: true });
  const value = cell => {
    const text = (cell ? cell.textContent : "").replace(/^[✗↓✓≈]\s*/, "").trim();
    if (!text || text === "–") return null;
    if (text === "∞" || text === "NaN") return Infinity;
    const number = Number(text.replace(/,/g, ""));
    return Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a === b ? 0 : a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return collator.compare(a, b);
  };
  const sort = (table, head) => {
    const rows = all("tr", body(table));
    rows.forEach((row, place) => (row.place ??= place));
    const next = { ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")] ?? "ascending";
    for (const each of all("th[aria-sort]", table)) each.removeAttribute("aria-sort");
    if (next !== "none") head.setAttribute("aria-sort", next);
    const column = head.cellIndex, up = next === "descending" ? -1 : 1;
    const keys = new Map(rows.map(row => [row, sortKey(row, column, head.dataset.by)]));
    rows.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      if (next === "none" || x === y) return a.place - b.place;
      if (x === null || y === null) return x === null ? 1 : -1; // what is empty stays below
      return up * compare(x, y) || a.place - b.place;
    });
    body(table).append(...rows);
  };
  const sortKey = (row, column, by) => {
    if (by === "place") return row.place;
    if (by === "layer") return Number(row.id.split("-")[2]); // the graph's order
    return value(row.cells[column]);
  };
  for (const table of all("table.sortable"))
    for (const head of all("thead th", table)) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, head));
      head.append(button);
    }

  // Filters: every word must be found in a row's first three cells.
  const filter = form => {
    const table = document.getElementById(form.dataset.table);
    const words = one("[type=search]", form).value.toLowerCase().split(/\s+/).filter(Boolean);
    const bad = one("[type=checkbox]", form).checked;
    const rows = all("tr", body(table));
    let shown = 0;
    for (const row of rows) {
      const text = [0, 1, 2].map(n => row.cells[n]?.textContent ?? "").join(" ").toLowerCase();
      row.hidden = (bad && !row.classList.contains("wrong")) || !words.every(word => text.includes(word));
      const off = /(?:^| )a(\d+)/.exec(row.className);
      shown += !row.hidden && !(off && document.body.classList.contains("no" + off[1]));
    }
    one("output", form).value = `${shown} of ${rows.length} rows`;
  };
  const recount = () => all(".filter").forEach(filter);
  for (const form of all(".filter")) {
    form.addEventListener("input", () => filter(form));
    form.addEventListener("submit", event => event.preventDefault());
  }
  recount();

  // Which columns of the numbers; which of them the table of layers shows.
  for (const select of all("[data-columns]")) {
    const apply = () => (document.getElementById(select.dataset.columns).dataset.show = select.value);
    select.addEventListener("change", apply);
    apply();
  }
  for (const select of all("[data-from]")) {
    const heads = all("thead th", document.getElementById(select.dataset.from)).slice(4);
    heads.forEach((head, n) => select.add(new Option(head.textContent.replace(/\s+/g, " ").trim(), n + 4)));
    const before = new Map();
    select.value = "";
    select.addEventListener("change", () => {
      for (const link of all("td a", document.getElementById(select.dataset.to))) {
        if (!before.has(link)) before.set(link, link.lastChild.data);
        const row = document.getElementById(link.hash.slice(1));
        const text = row.cells[select.value || 0].textContent.trim();
        link.lastChild.data = select.value ? (link.childElementCount ? " " : "") + (text || "–") : before.get(link); // after the mark
      }
    });
  }

  // A link to a row or to an input shows what it leads to.
  const follow = () => {
    const target = document.getElementById(location.hash.slice(1));
    const panel = target && target.closest(".panel");
    if (!panel) return;
    choose(panel.id);
    all(".found").forEach(each => each.classList.remove("found"));
    if (target.localName !== "tr") return target.scrollIntoView();
    const form = one(`.filter[data-table="${target.closest("table").id}"]`);
    if (target.hidden) {
      form.reset();
      filter(form);
    }
    target.classList.add("found");
    target.tabIndex = -1;
    target.focus({ preventScroll: true });
    target.scrollIntoView({ block: "center" });
  };
  addEventListener("hashchange", follow);
  document.addEventListener("click", event => {
    const link = event.target.closest('a[href^="#"]');
    if (link && link.hash === location.hash) follow(); // the second click on one link
  });
  follow();

  // Values in the figures, under the pointer or by the arrow keys.
  const tip = one("#tip");
  const wordsOf = mark => {
    const title = one("title", mark);
    if (title) {
      mark.words = title.textContent;
      title.remove(); // or the browser shows it too
    }
    return mark.words;
  };
  const show = (mark, x, y) => {
    tip.textContent = wordsOf(mark);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const right = root.clientWidth - 8, left = x + 14 + box.width > right ? x - 14 - box.width : x + 14;
    tip.style.left = `${Math.max(8, Math.min(left, right - box.width))}px`;
    tip.style.top = `${Math.max(8, y + 14 + box.height > innerHeight ? y - box.height - 14 : y + 14)}px`;
  };
  document.addEventListener("pointermove", event => {
    const mark = event.target.closest?.(".hit, .dot");
    if (mark) show(mark, event.clientX, event.clientY);
    else if (!one(".hit.on")) tip.hidden = true;
  });
  document.addEventListener("scroll", () => (tip.hidden = true), { passive: true });
  for (const chart of all(".chart")) {
    const leave = () => {
      all(".hit.on", chart).forEach(each => each.classList.remove("on"));
      tip.hidden = true;
    };
    chart.addEventListener("blur", leave);
    chart.addEventListener("keydown", event => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") leave();
      if (!step) return;
      event.preventDefault();
      const hits = all(".hit", chart);
      const now = hits.findIndex(each => each.classList.contains("on"));
      const mark = hits[now < 0 ? (step > 0 ? 0 : hits.length - 1) : Math.max(0, Math.min(now + step, hits.length - 1))];
      leave();
      mark.classList.add("on");
      mark.scrollIntoView({ block: "nearest", inline: "nearest" });
      const box = mark.getBoundingClientRect();
      requestAnimationFrame(() => show(mark, box.right, box.top + 40));
    });
  }

  // On paper nothing can be opened.
  addEventListener("beforeprint", () => all("details").forEach(each => (each.open = true)));
})();
