// The dashboard: asks for each figure, draws it, and writes the table behind it.

import { get, post } from "./api.js";
import * as charts from "./charts.js";
import { openDecision } from "./decision.js";
import { behind, byId, element, HIDDEN, hiddenCells, interval, number, put, show, table, when } from "./elements.js";

const LIVE_MS = 30000;
const seen = {};

const alone = () => ({ open: !charts.available() });

function tile(title, value, under) {
  const none = value === null;
  return element("div", { className: "tile" }, [
    element("h2", { text: title }),
    element("div", { className: none ? "value none" : "value", text: none ? "not known" : value }),
    element("p", { text: under }),
  ]);
}

function chosenSeries() {
  const { series } = seen.performance;
  return series.find((s) => s.evidence === byId("evidence").value) ?? series[0];
}

function tiles() {
  const { counts } = seen.summary;
  const { versions } = chosenSeries();
  const told = versions.filter((v) => v.gap).at(-1);
  const gap = told?.gap;
  const worst = told?.groups.find((g) => g.subgroup === gap.worst_group);
  const why = versions.at(-1)?.note || "no model version is measured";
  const under = (text) => (gap ? `${text}; version ${told.number}` : why);
  const floor = seen.performance.floor.value;
  const excessUnder = floor === null ? "no floor is known" : under(interval(gap?.excess_low ?? null, gap?.excess_high ?? null));
  byId("tiles").replaceChildren(
    tile("Worst subgroup", gap ? `${gap.worst_group}  ${number(worst.mean)}` : null, under(worst ? `Dice, ${interval(worst.low, worst.high)}` : "")),
    tile("Gap", gap ? number(gap.value) : null, under(gap ? interval(gap.low, gap.high) : "")),
    tile("Excess gap", gap && gap.excess !== null ? number(gap.excess) : null, excessUnder),
    tile("Labelled / pool / excluded", `${counts.labelled} / ${counts.pool} / ${counts.excluded}`, "scans in all, now"),
  );
}

function performance() {
  const { versions, description } = chosenSeries();
  const { floor } = seen.performance;
  const groups = seen.summary.subgroups;
  byId("evidence-note").textContent = description;
  byId("floor").textContent = floor.sentence;
  byId("performance-refreshed").textContent = seen.performance.refreshed.sentence;
  charts.draw("dice-chart", "Mean Dice of each subgroup over the model versions; the table below has the numbers",
    () => charts.dice(versions, groups));
  charts.draw("gap-chart", "Gap between best and worst subgroup over the model versions; the table below has the numbers",
    () => charts.gap(versions, floor.value));
  const rows = versions.flatMap((v) => v.groups.map((g) => g.suppressed
    ? [`${v.number}`, v.model, g.subgroup, HIDDEN, HIDDEN, HIDDEN, v.note]
    : [`${v.number}`, v.model, g.subgroup, `${g.n}`, number(g.mean), interval(g.low, g.high), g.n ? "" : "no measured case"]));
  behind("dice-table", table("Mean Dice by model version and subgroup",
    [["version", "word"], ["model", "word"], ["subgroup", "word"], ["n", "number"], ["Dice", "number"], ["95 % interval", "number"], ["", "text"]],
    rows), alone());
  const gaps = versions.map((v) => v.gap
    ? [`${v.number}`, number(v.gap.value), interval(v.gap.low, v.gap.high), number(v.gap.excess), v.gap.best_group, v.gap.worst_group, ""]
    : [`${v.number}`, null, null, null, null, null, v.note]);
  behind("gap-table", table("Gap by model version",
    [["version", "word"], ["gap", "number"], ["95 % interval", "number"], ["excess", "number"], ["best", "word"], ["worst", "word"], ["", "text"]],
    gaps), alone());
  tiles();
}

function evidence() {
  const chooser = byId("evidence");
  const wanted = chooser.value;
  const { series } = seen.performance;
  chooser.replaceChildren(...series.map((s) => element("option", { text: s.title, attributes: { value: s.evidence } })));
  const told = (s) => s.versions.some((v) => v.groups.some((g) => g.mean !== null));
  chooser.value = wanted || (series.find(told) ?? series[0]).evidence;
}

const count = (value) => (value === null ? HIDDEN : `${value}`);

function counts() {
  const { counts: told, subgroups } = seen.summary;
  charts.draw("counts-chart", "Labelled, pool and excluded scans by subgroup; the table below has the numbers",
    () => charts.counts(told.groups));
  const rows = told.groups.map((g) => [g.subgroup, count(g.labelled), count(g.pool), count(g.excluded)]);
  behind("counts-table", table("Scans by subgroup",
    [["subgroup", "word"], ["labelled", "number"], ["pool", "number"], ["excluded or unreadable", "number"]], rows), alone());
  const { weights } = seen;
  charts.draw("weights-chart", "Weight of each subgroup; the table below has the numbers",
    () => charts.weights(weights.groups, subgroups));
  behind("weights-table", table("Weights", [["subgroup", "word"], ["weight", "number"]],
    weights.groups.map((g) => [g.subgroup, number(g.weight)])), alone());
  byId("weights-note").textContent = weights.note
    || `Rule ${weights.rule}, from the ${weights.estimator} estimate. ${weights.refreshed.sentence} Each decision holds those it was taken by.`;
  const since = seen.summary.labels_since;
  byId("counts-refreshed").textContent = `${told.refreshed.sentence} ${since} label${since === 1 ? "" : "s"} came since.`;
}

const minutes = (s) => s && { median: s.median / 60, low: s.low / 60, high: s.high / 60 };
const millilitres = (s) => s && { median: s.median / 1000, low: s.low / 1000, high: s.high / 1000 };
const spreadCell = (n, s) => (n === null ? HIDDEN : s ? `${number(s.median, 2)} (${interval(s.low, s.high, 2)})` : "–");

function work() {
  const { groups, refreshed } = seen.work;
  const order = seen.summary.subgroups;
  charts.draw("seconds-chart", "Minutes from lease to submit by subgroup; the table below has the numbers",
    () => charts.spread("minutes", groups.map((g) => ({ subgroup: g.subgroup, spread: minutes(g.seconds) })), order));
  charts.draw("edited-chart", "Edited volume by subgroup; the table below has the numbers",
    () => charts.spread("ml", groups.map((g) => ({ subgroup: g.subgroup, spread: millilitres(g.edited_mm3) })), order));
  behind("work-table", table("Median (quartiles) by subgroup",
    [["subgroup", "word"], ["timed labels", "number"], ["minutes", "number"], ["labels from a prediction", "number"], ["edited, ml", "number"]],
    groups.map((g) => [g.subgroup, count(g.timed), spreadCell(g.timed, minutes(g.seconds)), count(g.edited), spreadCell(g.edited, millilitres(g.edited_mm3))])),
  alone());
  byId("work-refreshed").textContent = refreshed.sentence;
}

const CONSENSUS = { staple: "STAPLE", majority: "a majority vote" };

function agreement() {
  const { groups, readers_per_case: readers, consensus, min_cell: least, refreshed } = seen.agreement;
  byId("agreement").hidden = readers < 2;
  if (readers < 2) return;
  byId("agreement-note").textContent = `Each scan goes to ${readers} readers, blind to each other; `
    + `${CONSENSUS[consensus] ?? consensus} makes the final label of theirs.`;
  const rows = groups.map((g) => [g.subgroup, ...spreadCells(g.n, g.dice, 3), ...spreadCells(g.n_surface, g.surface_distance_mm, 2)]);
  put("agreement-table", rows.length && table("By subgroup, over its scans",
    [["subgroup", "word"], ...AGREED, ...AGREED], rows,
    { over: [["", 1], ["Dice (1: the same mask)", 3], ["Mean distance between the outlines, mm", 3]] }) || null,
  `Shown once ${least} scans have been read by all their readers.`);
  byId("agreement-refreshed").textContent = refreshed.sentence;
}

const AGREED = [["scans", "number first"], ["median", "number main"], ["quartiles", "number"]];
const spreadCells = (n, s, digits) => (n === null ? [hiddenCells(AGREED.length)]
  : [`${n}`, number(s?.median, digits), s ? interval(s.low, s.high, digits) : "–"]);

function opener(id) {
  const button = element("button", { text: `${id}`, className: "link", attributes: { type: "button", "aria-label": `Open decision ${id}` } });
  button.addEventListener("click", () => openDecision(id).catch(trouble));
  return button;
}

function leases() {
  const rows = seen.leases.leases.map((l) => [l.image, l.client_id, `${Math.ceil(l.seconds_left / 60)} min`, opener(l.decision)]);
  put("leases-table", rows.length && table("Scans in a reader's hands",
    [["scan", "word"], ["reader", "word"], ["left", "number"], ["decision", "number"]], rows) || null, "Nobody holds a scan.");
}

function excluded() {
  const rows = seen.summary.excluded.map((e) => [e.image, e.reason, e.by, e.reopens ? putBack(e.image) : ""]);
  put("excluded-table", rows.length && table("Scans out of the study",
    [["scan", "word"], ["reason", "text"], ["by", "word"], ["", "word"]], rows) || null, "No scan is excluded.");
}

function putBack(image) {
  const button = element("button", { text: "Put back", className: "link", attributes: { type: "button", "aria-label": `Put ${image} back` } });
  button.addEventListener("click", () => post("reopen", { image }).then(load).catch(trouble));
  return button;
}

function decisions() {
  const rows = seen.decisions.decisions.map((d) => [
    opener(d.decision), d.image, d.client_id, d.strategy, `${d.plan}`, `${d.position + 1}`, when(d.created_at)]);
  put("decisions-table", rows.length && table("Open one to see its candidates and to replay it",
    [["decision", "word"], ["scan", "word"], ["reader", "word"], ["strategy", "word"], ["plan", "number"], ["place", "number"], ["when", "number"]],
    rows) || null, "No scan has been handed out yet.");
}

function training() {
  const { models } = seen.training;
  put("training-table", models.length && table("Models of this study",
    [["version", "word"], ["model", "word"], ["origin", "word"], ["made", "number"], ["cases", "number"], ["steps", "number"], ["objective", "word"],
      ["loss", "number"], ["Dice, select half", "number"], ["worst subgroup", "number"], ["", "text"]],
    models.map((m) => [`${m.number}${m.current ? " (current)" : ""}`, m.model, m.origin, when(m.created_at), m.training_cases, m.steps,
      m.objective, number(m.loss), number(m.dice), number(m.worst_group_dice), m.note])) || null, "There is no model.");
  const told = models.filter((m) => m.progress.length);
  for (const id of ["progress-heading", "progress", "progress-table"]) byId(id).hidden = !told.length;
  if (!told.length) return;
  const chooser = byId("progress-model");
  const wanted = chooser.value;
  chooser.replaceChildren(...told.map((m) => element("option", { text: `${m.number} (${m.objective})`, attributes: { value: m.number } })));
  chooser.value = wanted || `${told.at(-1).number}`;
  course();
}

function course() {
  const model = seen.training.models.find((m) => `${m.number}` === byId("progress-model").value);
  const rows = model.progress;
  const order = seen.summary.subgroups;
  charts.draw("loss-chart", "Training loss by subgroup over the steps; the table below has the numbers",
    () => charts.course("loss", rows, (r) => r.loss, order));
  const hasQ = rows.some((r) => r.q);
  charts.draw("q-chart", "q by subgroup over the steps; the table below has the numbers", () => (hasQ
    ? charts.course("q", rows, (r) => r.q, order)
    : { empty: `The objective ${model.objective} has no q: every case counts alike.` }));
  const names = order.filter((name) => rows.some((r) => r.loss[name] !== undefined));
  behind("progress-table", table(`Training of version ${model.number}`,
    [["step", "word"], ...names.flatMap((n) => [[`loss ${n}`, "number"], ...(hasQ ? [[`q ${n}`, "number"]] : [])])],
    rows.map((r) => [`${r.step}`, ...names.flatMap((n) => [number(r.loss[n]), ...(hasQ ? [number(r.q[n])] : [])])])), alone());
}

function head() {
  const { study, sensitive_feature: feature, model, model_number: version, note, audit_report: audited } = seen.summary;
  const by = feature ? `subgroups by ${feature}` : "no subgroups";
  byId("study").textContent = `${study} · ${by} · ` + (model ? `model version ${version} (${model})` : "no model");
  byId("min-cell").textContent = seen.summary.min_cell;
  byId("audit").hidden = !audited;
  show("note", note);
  byId("charts-missing").hidden = charts.available();
}

const trouble = (error) => show("trouble", error.message);

async function load() {
  const names = ["summary", "performance", "weights", "work", "agreement", "leases", "decisions", "training"];
  try {
    const answers = await Promise.all(names.map(get));
    names.forEach((name, place) => { seen[name] = answers[place]; });
  } catch (error) {
    trouble(error);
    return;
  }
  show("trouble", "");
  evidence();
  for (const draw of [head, performance, agreement, counts, work, leases, excluded, decisions, training]) draw();
  document.body.dataset.loaded = "true";
}

async function live() {
  if (document.hidden || byId("decision").open || !seen.summary) return;
  try {
    [seen.leases, seen.decisions] = await Promise.all([get("leases"), get("decisions")]);
  } catch (error) {
    trouble(error);
    return;
  }
  // A button that has the keyboard stays.
  if (byId("leases-table").contains(document.activeElement) || byId("decisions-table").contains(document.activeElement)) return;
  leases();
  decisions();
}

byId("reload").addEventListener("click", load);
byId("evidence").addEventListener("change", performance);
byId("progress-model").addEventListener("change", course);
window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
setInterval(live, LIVE_MS);
load();
