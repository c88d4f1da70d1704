// Plots of quality against bitrate and speed, drawn by plotly.js in the colours of the page, and before it is printed.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("plot-data").textContent);
  const controls = document.getElementById("plot-controls");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const coarse = window.matchMedia("(pointer: coarse)");
  const paper = window.matchMedia("print");
  const drawn = new Set();
  // On paper: the light scheme, and two figures beside each other whatever the window's width.
  const PAPER = { "--line": "#e3e3df", "--line-strong": "#8d9297", "--text": "#1d2023", "--text-soft": "#575d64" };
  const PAPER_SIZE = { width: 342, height: 250 };

  function draw(figure, onPaper = false) {
    const axisName = controls.elements.namedItem("axis")?.value ?? "bitrate";
    const categories = controls.elements.namedItem("category");
    if (categories) categories.disabled = axisName !== "bitrate"; // speeds are of all clips
    const category = (axisName === "bitrate" && categories?.value) || "";
    const off = new Set([...controls.querySelectorAll("input[name=group]:not(:checked)")].map((tick) => tick.value));
    const plot = data.find((p) => p.metric === figure.dataset.metric && p.axis === axisName && (p.category ?? "") === category);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => (onPaper && PAPER[name]) || style.getPropertyValue(name).trim();
    const axis = {
      gridcolor: colour("--line"), linecolor: colour("--line-strong"), zeroline: false, automargin: true,
      tickfont: { size: 11 }, title: { font: { size: 11.5 }, standoff: 6 }, ticks: "outside", ticklen: 3,
      tickcolor: colour("--line-strong"),
    };
    const layout = structuredClone(plot.figure.layout);
    Object.assign(layout, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", height: 300,
      margin: { l: 54, r: 12, t: 10, b: 44 }, font: { color: colour("--text-soft"), family: colour("--font"), size: 12 },
      hoverlabel: { bgcolor: colour("--surface"), bordercolor: colour("--line-strong"), font: { color: colour("--text"), size: 12 } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--line-strong"), activecolor: colour("--accent") },
      dragmode: coarse.matches ? false : "zoom",
    });
    if (onPaper) Object.assign(layout, PAPER_SIZE);
    layout.xaxis = merged(axis, layout.xaxis);
    layout.yaxis = merged(axis, layout.yaxis);
    const traces = plot.figure.data.filter((trace) => !off.has(trace.name)).map((trace) => ({
      ...trace, textfont: { size: 10, color: colour("--text") }, cliponaxis: false,
    }));
    const note = figure.querySelector(".absent");
    note.textContent = plot.absent.length ? `Not drawn: ${plot.absent.join(", ")}.` : "";
    note.hidden = !plot.absent.length;
    // By default plotly.js offers to send the numbers to its makers' server.
    const config = { displaylogo: false, responsive: !onPaper, displayModeBar: coarse.matches ? false : "hover",
      showSendToCloud: false, plotlyServerURL: "",
      modeBarButtons: [["toImage"], ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]] };
    window.Plotly.react(figure.querySelector(".canvas"), structuredClone(traces), layout, config);
    drawn.add(figure);
  }

  // `over` wins, except inside of objects, which are joined.
  function merged(under, over) {
    const out = { ...under };
    for (const [name, value] of Object.entries(over ?? {})) {
      const inner = value && typeof value === "object" && !Array.isArray(value);
      out[name] = inner ? merged(under[name] ?? {}, value) : value;
    }
    return out;
  }

  // Drawn when it comes near the window, else when there is time: by then a print or a capture of the whole page has all.
  const figures = [...document.querySelectorAll("figure.plot")];
  const once = (figure) => drawn.has(figure) || draw(figure);
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        seen.unobserve(entry.target);
        once(entry.target);
      }
    }
  }, { rootMargin: "400px" });
  for (const figure of figures) seen.observe(figure);
  const later = window.requestIdleCallback ?? ((work) => setTimeout(work, 200));
  const rest = () => {
    const next = figures.find((figure) => !drawn.has(figure));
    if (!next) return;
    once(next);
    later(rest);
  };
  window.addEventListener("load", () => later(rest));

  let printing = false;
  const print = (on) => {
    if (on === printing) return;
    printing = on;
    figures.forEach((figure) => draw(figure, on));
  };
  window.addEventListener("beforeprint", () => print(true));
  window.addEventListener("afterprint", () => print(false));
  paper.addEventListener("change", () => print(paper.matches));

  const again = () => drawn.forEach((figure) => draw(figure, printing));
  controls.addEventListener("input", again);
  controls.addEventListener("submit", (event) => event.preventDefault());
  dark.addEventListener("change", again);
})();
