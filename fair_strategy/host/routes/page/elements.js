// Elements from plain values. Text only, never HTML: names of scans, readers and subgroups are data.

export const byId = (id) => document.getElementById(id);

export function element(tag, { text, className, attributes = {} } = {}, children = []) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function show(id, text) {
  const place = byId(id);
  place.textContent = text;
  place.hidden = !text;
}

export const number = (value, digits = 3) =>
  value === null || value === undefined ? "–" : value.toFixed(digits);

export const interval = (low, high, digits = 3) =>
  low === null || high === null ? "–" : `${number(low, digits)} to ${number(high, digits)}`;

export const when = (text) =>
  text ? new Date(text).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }) : "–";

export const HIDDEN = Symbol("suppressed");

// Several cells of a row, side by side, all suppressed: said once.
export const hiddenCells = (columns) => ({ hidden: columns });

// columns: [heading, kind] where kind is "number", "word" or "text", and may add classes; a cell is text, an element,
// HIDDEN or hiddenCells. over: [heading, number of columns] of a row above the headings.
export function table(caption, columns, rows, { chosen = () => false, over = [] } = {}) {
  const above = over.map(([heading, span]) =>
    (heading ? element("th", { text: heading, className: "over", attributes: { scope: "colgroup", colspan: span } })
      : element("td", { attributes: { colspan: span } })));
  const head = columns.map(([heading, kind]) =>
    element("th", { text: heading, className: kind, attributes: { scope: "col" } }));
  const body = rows.map((row, place) => {
    let column = 0;
    const cells = row.map((cell) => {
      const made = cellOf(cell, columns[column][1], column === 0);
      column += made.colSpan;
      return made;
    });
    return element("tr", chosen(place) ? { className: "chosen" } : {}, cells);
  });
  return element("table", {}, [
    element("caption", { text: caption }),
    element("thead", {}, [...(over.length ? [element("tr", {}, above)] : []), element("tr", {}, head)]),
    element("tbody", {}, body),
  ]);
}

function cellOf(cell, kind, heads) {
  const made = heads
    ? element("th", { className: kind, attributes: { scope: "row" } })
    : element("td", { className: kind });
  if (cell === HIDDEN || cell?.hidden) {
    made.colSpan = cell.hidden ?? 1;
    made.append(element("span", { text: "suppressed", className: "hidden-cell" }));
  } else if (cell instanceof Node) {
    made.append(cell);
  } else {
    made.textContent = cell ?? "–";
  }
  return made;
}

// A table that stands behind a chart, folded away; open where it is all there is.
export function behind(id, made, { open = false } = {}) {
  const place = byId(id);
  const wasOpen = place.open;
  place.replaceChildren(element("summary", { text: "Table" }), made);
  place.open = wasOpen || open;
}

export function put(id, made, empty) {
  byId(id).replaceChildren(made ?? element("p", { text: empty, className: "soft" }));
}
