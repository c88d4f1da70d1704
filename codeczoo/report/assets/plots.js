// Rate-distortion plots: drawn by plotly.js when they come into view, in the colours of the page.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("plot-data").textContent);
  const controls = document.getElementById("plot-controls");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const coarse = window.matchMedia("(pointer: coarse)");
  const drawn = new Set();

  function draw(figure) {
    const category = controls.elements.namedItem("category")?.value ?? "";
    const off = new Set([...controls.querySelectorAll("input[name=group]:not(:checked)")].map((tick) => tick.value));
    const plot = data.find((p) => p.metric === figure.dataset.metric && (p.category ?? "") === category);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
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
    layout.xaxis = merged(axis, layout.xaxis);
    layout.yaxis = merged(axis, layout.yaxis);
    const traces = plot.figure.data.filter((trace) => !off.has(trace.name));
    const note = figure.querySelector(".absent");
    note.textContent = plot.absent.length ? `Not drawn: ${plot.absent.join(", ")}.` : "";
    note.hidden = !plot.absent.length;
    // By default plotly.js offers to send the numbers to its makers' server.
    const config = { displaylogo: false, responsive: true, displayModeBar: coarse.matches ? false : "hover",
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

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        seen.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: "400px" });
  for (const figure of document.querySelectorAll("figure.plot")) seen.observe(figure);

  const again = () => drawn.forEach(draw);
  controls.addEventListener("input", again);
  controls.addEventListener("submit", (event) => event.preventDefault());
  dark.addEventListener("change", again);
})();
