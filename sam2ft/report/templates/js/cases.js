// Slices with pictures: those of one point at a time, or those with one label, its worst first (what was missed before
// what was predicted where nothing is, then by Dice of the label).
const FIRST_SHOWN = 6;
const list = document.getElementById("case-list");
const cases = list ? [...list.children] : [];

if (cases.length) {
  const points = new Map(cases.map((one) => [one.dataset.run, one.dataset.point]));
  const labels = new Map();
  for (const cell of list.querySelectorAll("tr[data-label]")) labels.set(cell.dataset.label, cell.dataset.name);
  const point = choice([["*", "all points"], ...points], cases[0].dataset.run);
  const label = choice([["*", "all labels"], ...[...labels].sort((a, b) => a[0] - b[0])], "*");
  const text = element("input", { type: "search", placeholder: "part of a subject's name" });
  const count = element("output", { className: "soft small" });
  const more = element("button", { type: "button", className: "plain", id: "more-cases" });
  let most = FIRST_SHOWN;
  const rowsOf = (one) => [...one.querySelectorAll(label.value === "*" ? "tr[data-label]" : `tr[data-label="${label.value}"]`)];
  // Sorts the worst label that is asked for first: missed -3, beside the reference -2, spurious -1, then Dice.
  const FAILED = { missed: -3, ok: -2, spurious: -1 };
  const badness = (one) => {
    const places = rowsOf(one).filter((row) => row.dataset.dice !== "");
    const own = places.map((row) => (Number(row.dataset.dice) === 0 ? FAILED[row.dataset.status] : Number(row.dataset.dice)));
    return own.length ? Math.min(...own) : one.dataset.dice === "" ? 2 : Number(one.dataset.dice);
  };
  const empty = document.getElementById("no-case");
  const apply = () => {
    const wanted = text.value.trim().toLowerCase();
    const passes = (one) => {
      const ofPoint = point.value === "*" || one.dataset.run === point.value;
      const ofLabel = label.value === "*" || one.querySelector(`tr[data-label="${label.value}"]`);
      return ofPoint && ofLabel && one.dataset.where.toLowerCase().includes(wanted);
    };
    const ranked = label.value === "*" && point.value !== "*";
    const ordered = ranked ? cases : [...cases].sort((a, b) => badness(a) - badness(b));
    const found = ordered.filter(passes);
    for (const one of cases) one.hidden = true;
    for (const one of found.slice(0, most)) one.hidden = false;
    list.append(...ordered);
    more.hidden = found.length <= most;
    more.textContent = `Show ${found.length - most} more`;
    count.textContent = `${found.length} of ${cases.length} slices`;
    const chosen = [point, label].map((field) => field.options[field.selectedIndex].text);
    empty.hidden = found.length > 0;
    empty.textContent = `No slice with a picture for ${chosen.join(", ")}${wanted && `, “${text.value.trim()}”`}: pictures are of the worst, median and best slices; all slices are in slice.csv.`;
  };
  const start = () => {
    most = FIRST_SHOWN;
    apply();
  };
  for (const field of [point, label, text]) field.addEventListener("input", start);
  more.addEventListener("click", () => {
    most = Infinity;
    apply();
  });
  list.after(more);
  const bar = element("div", { className: "filters", role: "search", "aria-label": "Filter the slices" });
  bar.append(labelled("Point", point));
  if (labels.size > 1) bar.append(labelled("Label", label));
  bar.append(labelled("Subject", text), count);
  list.before(bar);
  apply();

  const show = (run, ofLabel, where) => {
    most = FIRST_SHOWN;
    point.value = run;
    label.value = labels.has(ofLabel) ? ofLabel : "*";
    text.value = where;
    apply();
  };
  document.addEventListener("reveal", (event) => {
    const hidden = event.detail.closest(".case[hidden]");
    if (!hidden) return;
    show(hidden.dataset.run, "*", "");
    if (hidden.hidden) more.click();
  });
  document.addEventListener("subject", (event) => {
    const { subject, label: ofLabel, run } = event.detail;
    const where = `/${subject}/`;
    show(points.has(run) ? run : cases[0].dataset.run, ofLabel, where);
    document.getElementById("cases").scrollIntoView();
  });
  for (const link of document.querySelectorAll("a[data-cases-of-label]")) {
    link.addEventListener("click", () => show(cases[0].dataset.run, link.dataset.casesOfLabel, ""));
  }
}
