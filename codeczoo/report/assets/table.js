// Tables that sort by their header buttons and are filtered by the form that names them.
"use strict";
(() => {
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  // What a cell sorts by: its number, else (in a column of words) its text; null: it has nothing, and comes last.
  function key(cell) {
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    if (cell.classList.contains("number")) return null;
    return (cell.querySelector(".codec") ?? cell).textContent.trim();
  }

  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "number" && typeof b === "number" ? a - b : collator.compare(a, b));
  }

  function sort(table, header, order) {
    const index = [...header.parentElement.children].indexOf(header);
    const sign = order === "ascending" ? 1 : -1;
    for (const body of table.tBodies) {
      const rows = [...body.rows].map((row) => [key(row.cells[index]), row]);
      rows.sort((a, b) => compare(a[0], b[0], sign)); // stable: equal rows keep their order
      body.append(...rows.map((pair) => pair[1]));
    }
    for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", order);
  }

  // Rows and header as they came.
  function unsort(table, header) {
    for (const body of table.tBodies) {
      body.append(...[...body.rows].sort((a, b) => a.dataset.order - b.dataset.order));
    }
    for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
    header?.setAttribute("aria-sort", "ascending");
  }

  // A shadow at the side on which a table goes on.
  for (const scroll of document.querySelectorAll(".scroll")) {
    const edge = document.createElement("div");
    edge.className = "edge";
    scroll.replaceWith(edge);
    edge.append(scroll);
    const show = () => {
      edge.classList.toggle("more-left", scroll.scrollLeft > 1);
      edge.classList.toggle("more-right", scroll.scrollLeft + scroll.clientWidth < scroll.scrollWidth - 1);
    };
    scroll.addEventListener("scroll", show, { passive: true });
    new ResizeObserver(show).observe(scroll);
    new ResizeObserver(show).observe(scroll.firstElementChild);
  }

  // On a phone there is room for metrics, and facts are a tick away.
  if (window.matchMedia("(max-width: 560px)").matches) {
    for (const tick of document.querySelectorAll("input[data-fact]")) tick.checked = tick.defaultChecked = false;
  }

  for (const table of document.querySelectorAll("table.board")) {
    table.tHead.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const header = button.closest("th");
      const now = header.getAttribute("aria-sort");
      const flipped = now === "ascending" ? "descending" : "ascending";
      sort(table, header, now === "none" ? button.dataset.first : flipped);
    });
  }

  for (const form of document.querySelectorAll("form[data-table]")) {
    const table = document.getElementById(form.dataset.table);
    const output = form.querySelector("output");
    const first = table.querySelector("th[aria-sort=ascending]");
    const value = (name) => form.elements.namedItem(name)?.value ?? "";

    const apply = () => {
      const words = value("text").toLowerCase().split(/\s+/).filter(Boolean);
      const low = value("min") === "" ? null : Number(value("min"));
      const high = value("max") === "" ? null : Number(value("max"));
      const matches = [...form.querySelectorAll("select[name^=match-]")].map((s) => [s.name.slice(6), s.value]);
      const fits = (row) => {
        const rate = row.dataset.kbps === undefined ? null : Number(row.dataset.kbps);
        if (low !== null && (rate === null || rate < low)) return false;
        if (high !== null && (rate === null || rate > high)) return false;
        if (matches.some(([name, wanted]) => wanted && row.dataset[name] !== wanted)) return false;
        return words.every((word) => row.dataset.text.includes(word));
      };
      const bodies = form.elements.namedItem("body");
      for (const body of table.tBodies) {
        if (bodies) body.hidden = body.dataset.body !== bodies.value;
        let shown = 0;
        for (const row of body.rows) shown += !(row.hidden = !fits(row));
        if (!body.hidden && output) output.value = `${shown} of ${body.rows.length} shown`;
      }
      if (value("interval")) table.dataset.interval = value("interval");
      const ticks = [...form.querySelectorAll("input[name=column]")];
      const off = new Set(ticks.filter((tick) => !tick.checked).map((tick) => tick.value));
      if (ticks.length) {
        for (const cell of table.querySelectorAll("[data-column]")) cell.hidden = off.has(cell.dataset.column);
      }
    };
    form.addEventListener("input", apply);
    form.addEventListener("reset", () => setTimeout(() => {
      if (first) unsort(table, first);
      apply();
    }));
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
  }
})();
