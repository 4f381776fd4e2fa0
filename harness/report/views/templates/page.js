"use strict";
const root = document.documentElement;
const darkOf = JSON.parse(document.getElementById("dark-colors").textContent);
const system = window.matchMedia("(prefers-color-scheme: dark)");
const unhoverable = matchMedia("(hover: none)").matches;
const touch = window.matchMedia("(pointer: coarse)").matches;
const hidden = new Map(); // section -> the names of its hidden methods
const drawn = new Set();

// ---- Light and dark: figures are drawn in the colors of a light page and recolored for a dark one.
const isDark = () => root.dataset.theme === "dark";
const shade = (color) => (isDark() && darkOf[color]) || color;
function recolored(value) {
  if (typeof value === "string") return shade(value);
  if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map(recolored);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, recolored(v)]));
  return value;
}
function setTheme(dark) {
  root.dataset.theme = dark ? "dark" : "light";
  for (const chip of document.querySelectorAll(".method")) chip.style.setProperty("--c", shade(chip.dataset.color));
  for (const canvas of drawn) draw(canvas);
}
document.getElementById("theme").addEventListener("click", () => setTheme(!isDark()));
system.addEventListener("change", (event) => setTheme(event.matches));

// ---- Figures are drawn when they come near the window, and again when the colors change.
const specOf = (canvas) => JSON.parse(canvas.parentElement.querySelector('script[type="application/json"]').textContent);
function draw(canvas) {
  const off = hidden.get(canvas.closest("section.context")) || new Set();
  const spec = recolored(specOf(canvas));
  for (const trace of spec.data) if (off.has(trace.legendgroup)) trace.visible = false;
  const chips = canvas.closest("section.context")?.querySelector(".methods");
  const own = spec.data.every((trace) => trace.showlegend === false || chips?.querySelector(`[data-method="${CSS.escape(trace.legendgroup || "")}"]`));
  spec.layout.showlegend = spec.layout.showlegend !== false && !own && spec.data.length > 1;
  delete spec.layout.title; // stands above the figure
  // Where nothing can hover, plotly shows its buttons at all times: they stand above the plot, not on the data.
  const top = (spec.layout.showlegend ? 40 : 10) + (unhoverable ? 26 : 0);
  spec.layout.margin = { ...spec.layout.margin, t: top };
  spec.layout.autosize = true;
  if (touch) spec.layout.dragmode = false; // a finger scrolls the page
  drawn.add(canvas);
  return Plotly.react(canvas, spec.data, spec.layout, {
    responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  });
}
async function unpack() {
  const packed = document.getElementById("plotly-packed");
  if (!packed) return;
  const bytes = Uint8Array.from(atob(packed.textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  packed.remove();
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        near.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: "400px" });
  for (const canvas of document.querySelectorAll(".canvas")) near.observe(canvas);
}

// ---- A chip shows or hides its method in every figure of its section.
function toggled(section, names) {
  hidden.set(section, names);
  for (const chip of section.querySelectorAll(".method")) chip.setAttribute("aria-pressed", String(!names.has(chip.dataset.method)));
  for (const canvas of drawn) if (section.contains(canvas)) draw(canvas);
}
for (const chip of document.querySelectorAll(".method")) {
  const section = chip.closest("section.context");
  chip.addEventListener("click", () => {
    const names = new Set(hidden.get(section));
    if (!names.delete(chip.dataset.method)) names.add(chip.dataset.method);
    toggled(section, names);
  });
  chip.addEventListener("dblclick", () => {
    const others = [...section.querySelectorAll(".method")].filter((other) => other !== chip);
    const alone = others.every((other) => other.getAttribute("aria-pressed") === "false");
    toggled(section, new Set(alone ? [] : others.map((other) => other.dataset.method)));
  });
}

// ---- A click on a column head sorts: numbers by their full value, texts as a reader would; a second click reverses.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = head.firstElementChild;
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const order = before === null ? button.dataset.first : before === "ascending" ? "descending" : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "descending" ? -1 : 1;
      const key = (row) => (row.cells[column].dataset.v === undefined ? null : parseFloat(row.cells[column].dataset.v));
      const text = (row) => row.cells[column].textContent.trim();
      body.append(...[...body.rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x !== null && y !== null) return x === y ? 0 : sign * (x - y);
        if (x !== null || y !== null) return x !== null ? -1 : 1; // what has no value stays last
        return sign * text(a).localeCompare(text(b), undefined, { numeric: true });
      }));
    });
  });
}

setTheme(system.matches);
unpack().catch((error) => {
  for (const canvas of document.querySelectorAll(".canvas")) canvas.textContent = `This browser cannot draw the figure (${error.message}).`;
});
