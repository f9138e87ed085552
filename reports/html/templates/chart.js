// Draws the charts of a page from its JSON: picks the rows of the chosen view and quantity, divides by the baseline, calls Vega.
// A chart that is there takes other rows, ticks and a title, in a quarter of the time of a new one, which only other kinds of axes need.
const page = JSON.parse(document.getElementById("content").textContent);
const control = name => document.getElementById(name);
const shown = {}, casesOf = new Map(), fitOf = new Map(page.fits.map(fit => [[fit.view, fit.quantity, fit.curve].join("\n"), fit]));
for (const one of page.cases) for (const view of one.in) casesOf.has(view) ? casesOf.get(view).push(one) : casesOf.set(view, [one]);
const slots = n => [["G", 2 ** 30], ["M", 2 ** 20], ["k", 2 ** 10]].reduce((text, [unit, size]) => text || (n >= size && n % size === 0 ? n / size + unit : ""), "") || String(n);
const bytes = n => [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]].reduce((text, [unit, size]) => text || (Math.abs(n) >= size ? Number((n / size).toPrecision(3)) + " " + unit : ""), "") || Number(n.toPrecision(3)) + " B";

function powers(rows, base) {
  const logs = rows.flatMap(row => [row.low, row.high]).map(value => Math.log(value) / Math.log(base));
  const first = Math.floor(Math.min(...logs)), last = Math.ceil(Math.max(...logs)), step = 1 + Math.floor((last - first) / 9);
  return Array.from({length: Math.max(0, Math.ceil((last - first + 1) / step))}, (_, i) => base ** (first + i * step));
}

function rowsOf(view, quantity, baseline) {
  const axis = view.split("|")[0], cases = casesOf.get(view) || [];
  const at = new Map(cases.filter(c => c.curve === baseline).map(c => [c[axis], c.values[quantity]]));
  const text = value => baseline ? value.toPrecision(3) + "x" : page.quantities[quantity].bytes ? bytes(value) : value.toPrecision(4);
  return cases.flatMap(c => {
    let [y, low, high] = c.values[quantity];
    if (low === undefined) low = high = y;
    if (baseline) {
      const [by, bLow = by, bHigh = by] = at.get(c[axis]) || [null];
      if (!by || !y) return [];
      [y, low, high] = [by / y, bLow / high, bHigh / low];
    }
    if (y === null || (control("log").checked && y <= 0)) return [];
    const fit = fitOf.get([view, quantity, c.curve].join("\n"));
    return [{x: c[axis], y, low, high, curve: c.curve, label: c.label, case: c.case, href: "#case-" + c.case, warnings: c.warnings, shown: text(y),
             interval: low === high ? "counted" : text(low) + " to " + text(high), order: fit ? fit.order : ""}];
  });
}

function refill(view, rows, fits, signals) {
  const chosen = view.data("chosen_store"), curves = new Set(rows.map(row => row.curve));
  if (!chosen.some(one => curves.has(one.values[0]))) view.data("chosen_store", []);  // all would be faint
  view.data("cases", rows);
  if (fits.length) view.data("fits", fits);
  for (const [name, value] of Object.entries(signals)) view.signal(name, value);
  return view.runAsync();
}

async function draw(side) {
  const view = control("view").value, quantity = control(side).value, baseline = control("baseline").value;
  const axis = view.split("|")[0], log = control("log").checked, about = page.quantities[quantity];
  const rows = rowsOf(view, quantity, baseline), scale = log ? "log" : "linear";
  const fits = !control("fit").checked || baseline ? [] : page.fits.filter(f => f.view === view && f.quantity === quantity)
    .flatMap(f => f.points.map(([x, y]) => ({x, y, curve: f.curve})));
  const heading = baseline ? `${about.title}: times less than ${baseline}` : about.title, yTitle = baseline ? "times" : about.axis;
  const inBytes = about.bytes && !baseline, xTicks = [...new Set(rows.map(row => row.x))].sort((a, b) => a - b);
  const ys = rows.flatMap(row => [row.low, row.high]), base = inBytes ? 4 : 10, [least, most] = [Math.min(...ys), Math.max(...ys)];
  const flat = log && least === most, ends = flat ? [least / base, most * base] : [least, most];  // one value has no logarithmic axis of its own
  const yTicks = powers(ends.map(end => ({low: end, high: end})), base).filter(tick => !flat || (ends[0] <= tick && tick <= ends[1]));
  const names = page.curves.filter(curve => rows.some(row => row.curve === curve)), signals = {heading, xTicks, yTicks, names};
  const letters = Math.max(...page.curves.map(curve => curve.length)), width = control("chart-" + side).clientWidth;
  const columns = Math.max(1, Math.min(3, Math.floor(width / (40 + 6.5 * letters))));
  const kind = JSON.stringify([axis, yTitle, inBytes, log, fits.length > 0, columns, flat && ends]);
  if (shown[side]?.kind === kind) await refill(shown[side].view, rows, fits, signals);
  else {
    const text = JSON.stringify(page.specification).replaceAll('"type":"log"', `"type":"${scale}"`).replaceAll(log ? "\u0000" : '"base":2,', "");
    const specification = JSON.parse(text);
    specification.config.legend.columns = columns;
    specification.datasets = {cases: rows, fits};
    specification.title = {text: {expr: "heading"}, anchor: "start"};
    specification.params = [...specification.params || [], ...Object.entries(signals).map(([name, value]) => ({name, value}))];
    specification.layer = specification.layer.filter(layer => fits.length || !(layer.data && layer.data.name === "fits"));
    for (const {encoding: {x, y, ...others}} of specification.layer) {
      for (const of of [others.color, others.strokeDash, others.shape]) if (of?.scale) of.legend = {values: {expr: "names"}};
      Object.assign(x, {title: page.axes[axis], axis: {values: {expr: "xTicks"}, labelExpr: "slots(datum.value)", labelOverlap: "greedy", labelSeparation: 6, grid: false}});
      Object.assign(y, {title: yTitle, axis: {...(log ? {values: {expr: "yTicks"}} : {}), ...(inBytes ? {labelExpr: "bytes(datum.value)"} : {})}});
      if (flat) y.scale = {...y.scale, domain: ends};
    }
    shown[side]?.finalize();
    shown[side] = await vegaEmbed("#chart-" + side, specification, {
      renderer: "svg", actions: {export: true, source: false, compiled: false, editor: false}, expressionFunctions: {slots, bytes}});
    shown[side].kind = kind;
  }
  shown[side].view.container().setAttribute("aria-label", `${about.title}, ${control("view").selectedOptions[0].text}`);

  const fields = ["curve", "label", "x", "y", "low", "high", "order", "case", "warnings"], quoted = value => `"${String(value).replaceAll('"', '""')}"`;
  const csv = [fields, ...rows.map(row => fields.map(name => row[name]))].map(line => line.map(quoted).join(",")).join("\n");
  Object.assign(control("csv-" + side), {href: "data:text/csv;charset=utf-8," + encodeURIComponent(csv), download: quantity + ".csv"});
}
function filterRows() {
  const shown = new Set((casesOf.get(control("view").value) || []).map(one => "case-" + one.case)), only = control("only").checked;
  for (const row of document.querySelectorAll("tr[id^=case-]")) if (row.hidden !== (only && !shown.has(row.id))) row.hidden = !row.hidden;
}
const drawAll = () => Promise.all([draw("left"), draw("right")]);
for (const side of ["left", "right"]) control(side).addEventListener("change", () => draw(side));
for (const name of ["view", "baseline", "log", "fit"]) control(name).addEventListener("change", drawAll);
for (const name of ["view", "only"]) control(name).addEventListener("change", filterRows);
addEventListener("hashchange", () => { const row = document.getElementById(location.hash.slice(1)); if (row) row.hidden = false; });
drawAll();
