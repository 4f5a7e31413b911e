// Charts by Plotly, in the colours of the page. Every subgroup has a colour, a marker and a dash of its own.

import { byId } from "./elements.js";

const MARKERS = ["circle", "square", "diamond", "triangle-up", "cross", "x"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
const drawn = new Map();

export const available = () => Boolean(window.Plotly);

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const ofGroup = (place) => colour(`--group-${(place % 6) + 1}`);

// Draws, and again whenever the colours of the page change; `alt` is what a screen reader says.
export function draw(id, alt, make) {
  const place = byId(id);
  place.setAttribute("aria-label", alt);
  if (!available()) {
    place.hidden = true;
    return;
  }
  drawn.set(id, make);
  const { data, layout, empty } = make();
  place.classList.toggle("none", Boolean(empty));
  if (empty) {
    window.Plotly.purge(place);
    place.textContent = empty;
    return;
  }
  if (!place.classList.contains("js-plotly-plot")) place.textContent = "";
  window.Plotly.react(place, data, { ...base(), ...layout }, { displayModeBar: false, responsive: true });
}

function again() {
  for (const [id, make] of drawn) draw(id, byId(id).getAttribute("aria-label"), make);
}
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);

function base() {
  const font = { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("--ink") };
  return {
    font,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 56, r: 12, t: 8, b: 44 },
    hoverlabel: { bgcolor: colour("--card"), font: { color: colour("--ink") }, bordercolor: colour("--line") },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    showlegend: true,
  };
}

const axis = (title, more = {}) => ({
  title: { text: title, standoff: 8 },
  gridcolor: colour("--line"),
  linecolor: colour("--strong-line"),
  zerolinecolor: colour("--strong-line"),
  automargin: true,
  ...more,
});

function versionAxis(versions) {
  return axis("model version", {
    tickmode: "array",
    tickvals: versions.map((v) => v.number),
    ticktext: versions.map((v) => (v.origin === "shipped" ? `${v.number} (shipped)` : `${v.number}`)),
    range: [0.6, Math.max(...versions.map((v) => v.number)) + 0.4],
  });
}

const bars = (points) => ({
  type: "data",
  symmetric: false,
  array: points.map((p) => (p.high === null ? 0 : p.high - p.value)),
  arrayminus: points.map((p) => (p.low === null ? 0 : p.value - p.low)),
  thickness: 1.4,
  width: 5,
});

export function dice(versions, groups) {
  const traces = groups.map((group, place) => {
    const found = versions.map((v) => ({ version: v, told: v.groups.find((g) => g.subgroup === group) }));
    const points = found
      .filter(({ told }) => told && told.mean !== null)
      .map(({ version, told }) => ({ x: version.number, value: told.mean, low: told.low, high: told.high, n: told.n }));
    // Side by side, so that the intervals of two subgroups do not cover each other.
    const shift = (place - (groups.length - 1) / 2) * 0.06;
    return {
      type: "scatter", mode: "lines+markers", name: group,
      x: points.map((p) => p.x + shift), y: points.map((p) => p.value),
      customdata: points.map((p) => [p.x, p.n]),
      hovertemplate: "version %{customdata[0]}: %{y:.3f}, n = %{customdata[1]}",
      error_y: { ...bars(points), color: ofGroup(place) },
      line: { color: ofGroup(place), dash: DASHES[place % 6], width: 2.2 },
      marker: { color: ofGroup(place), symbol: MARKERS[place % 6], size: 9 },
    };
  });
  if (!traces.some((t) => t.x.length)) return { empty: "No subgroup has enough measured cases to be shown yet." };
  const layout = {
    xaxis: versionAxis(versions),
    yaxis: axis("Dice", { range: diceRange(traces) }),
  };
  return { data: traces, layout };
}

function diceRange(traces) {
  const ends = traces.flatMap((t) => t.y.flatMap((y, i) => [y + t.error_y.array[i], y - t.error_y.arrayminus[i]]));
  const low = Math.max(0, Math.min(...ends) - 0.02);
  return [low, Math.min(1, Math.max(...ends) + 0.02)];
}

export function gap(versions, floor) {
  const points = versions
    .filter((v) => v.gap)
    .map((v) => ({ x: v.number, value: v.gap.value, low: v.gap.low, high: v.gap.high, worst: v.gap.worst_group }));
  if (!points.length) return { empty: "There is no gap to show: it needs two subgroups with enough measured cases." };
  const traces = [{
    type: "scatter", mode: "lines+markers", name: "gap",
    x: points.map((p) => p.x), y: points.map((p) => p.value), customdata: points.map((p) => p.worst),
    hovertemplate: "version %{x}: %{y:.3f}, worst: %{customdata}",
    error_y: { ...bars(points), color: colour("--ink") },
    line: { color: colour("--ink"), width: 2.2 }, marker: { color: colour("--ink"), size: 9 },
  }];
  if (floor !== null) {
    const ends = [0.6, Math.max(...versions.map((v) => v.number)) + 0.4];
    traces.push({
      type: "scatter", mode: "lines", name: "floor", x: ends, y: [floor, floor], hoverinfo: "skip",
      line: { color: colour("--soft"), dash: "dash", width: 2 },
    });
  }
  const layout = {
    xaxis: versionAxis(versions), yaxis: axis("Dice", { rangemode: "tozero" }), showlegend: floor !== null,
  };
  return { data: traces, layout };
}

export function counts(groups) {
  const places = ["labelled", "pool", "excluded"];
  const hidden = groups.flatMap((g) => places.filter((p) => g[p] === null).map((p) => `${g.subgroup} ${p}`));
  if (!groups.some((g) => places.some((p) => g[p]))) return { empty: "Every cell is suppressed, or there is no scan." };
  const traces = places.map((place) => ({
    type: "bar", orientation: "h", name: place,
    y: groups.map((g) => g.subgroup), x: groups.map((g) => g[place] ?? 0),
    text: groups.map((g) => (g[place] ? `${g[place]}` : "")), textposition: "inside", insidetextanchor: "middle",
    insidetextfont: { color: colour(place === "pool" ? "--ink" : "--on-accent") },
    marker: {
      color: colour(`--${place}`), pattern: { shape: { labelled: "", pool: "", excluded: "/" }[place] },
      line: { color: colour("--strong-line"), width: 1 }, // the fill of the pool is pale on the card
    },
    hovertemplate: `%{x} ${place}<extra>%{y}</extra>`,
  }));
  const layout = {
    barmode: "stack", legend: { ...base().legend, traceorder: "normal" },
    xaxis: axis(hidden.length ? "scans (suppressed cells are left out: see the table)" : "scans", { rangemode: "tozero" }),
    yaxis: axis("", { type: "category", autorange: "reversed" }),
  };
  return { data: traces, layout };
}

export function weights(groups, order) {
  if (!groups.length) return { empty: "There are no weights yet." };
  const trace = {
    type: "bar", orientation: "h", y: groups.map((g) => g.subgroup), x: groups.map((g) => g.weight),
    text: groups.map((g) => g.weight.toFixed(2)), textposition: "auto", insidetextfont: { color: colour("--on-accent") },
    marker: { color: groups.map((g) => ofGroup(Math.max(0, order.indexOf(g.subgroup)))) },
    hovertemplate: "%{x:.3f}<extra>%{y}</extra>",
  };
  const line = { type: "line", x0: 1, x1: 1, yref: "paper", y0: 0, y1: 1, line: { color: colour("--soft"), dash: "dash" } };
  const layout = {
    xaxis: axis("weight", { rangemode: "tozero" }),
    yaxis: axis("", { type: "category", autorange: "reversed" }), shapes: [line], showlegend: false,
  };
  return { data: [trace], layout };
}

export function spread(unit, rows, order) {
  const known = rows.filter((r) => r.spread);
  if (!known.length) return { empty: "No subgroup has enough labels to be shown yet." };
  const points = known.map((r) => ({ value: r.spread.median, low: r.spread.low, high: r.spread.high }));
  const { array, arrayminus, ...more } = bars(points);
  const trace = {
    type: "scatter", mode: "markers", y: known.map((r) => r.subgroup), x: points.map((p) => p.value),
    error_x: { array, arrayminus, ...more, color: colour("--soft") },
    marker: {
      size: 12, color: known.map((r) => ofGroup(Math.max(0, order.indexOf(r.subgroup)))),
      symbol: known.map((r) => MARKERS[Math.max(0, order.indexOf(r.subgroup)) % 6]),
    },
    hovertemplate: `%{x:.2f} ${unit}<extra>%{y}</extra>`,
  };
  const layout = {
    showlegend: false,
    xaxis: axis(unit, { rangemode: "tozero" }), yaxis: axis("", { type: "category", autorange: "reversed" }),
  };
  return { data: [trace], layout };
}

export function course(label, rows, of, order) {
  const names = order.filter((name) => rows.some((row) => of(row)?.[name] !== undefined));
  if (!names.length) return { empty: "Nothing of it can be shown for this model." };
  const traces = names.map((name) => {
    const place = order.indexOf(name);
    return {
      type: "scatter", mode: "lines+markers", name, x: rows.map((r) => r.step), y: rows.map((r) => of(r)?.[name] ?? null),
      line: { color: ofGroup(place), dash: DASHES[place % 6], width: 2 },
      marker: { color: ofGroup(place), symbol: MARKERS[place % 6], size: 7 },
      hovertemplate: `step %{x}: %{y:.3f}<extra>${name.replace(/[<>&]/g, " ")}</extra>`,
    };
  });
  return { data: traces, layout: { xaxis: axis("step", { rangemode: "tozero" }), yaxis: axis(label) } };
}
