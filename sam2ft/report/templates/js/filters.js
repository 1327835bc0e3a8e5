// Tables of class "filterable" get a field for text and one for every column that says data-filter.
const MOST_OPTIONS = 40;

const filterOf = (head, at, rows) => {
  const values = [...new Set(rows.map((row) => row.cells[at].dataset.value ?? row.cells[at].textContent.trim()))];
  const name = head.dataset.filter || head.textContent.trim();
  const valueOf = (row) => row.cells[at].dataset.value ?? row.cells[at].textContent.trim();
  if (values.length < 2) return null;
  if (values.length <= MOST_OPTIONS) {
    const ordered = values.sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
    if (ordered.every((value) => value === "" || !isNaN(value))) ordered.sort((a, b) => Number(a) - Number(b));
    const select = choice([["*", "all"], ...ordered.map((value) => [value, value || "–"])], "*");
    const passes = (row) => select.value === "*" || valueOf(row) === select.value;
    return { fields: [labelled(name, select)], inputs: [select], passes };
  }
  if (!values.every((value) => value === "" || !isNaN(value))) return null;
  const [low, high] = ["from", "to"].map(() => element("input", { type: "number", step: "any", className: "short" }));
  const passes = (row) => {
    const value = valueOf(row);
    if (low.value !== "" && !(value !== "" && Number(value) >= Number(low.value))) return false;
    return high.value === "" || (value !== "" && Number(value) <= Number(high.value));
  };
  return { fields: [labelled(`${name} from`, low), labelled("to", high)], inputs: [low, high], passes };
};

for (const table of document.querySelectorAll("table.filterable")) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length < 4) continue;
  const text = element("input", { type: "search", placeholder: "part of a name or value" });
  const heads = [...table.tHead.rows[0].cells];
  const filters = heads.map((head, at) => ("filter" in head.dataset ? filterOf(head, at, rows) : null)).filter(Boolean);
  const count = element("output", { className: "soft small" });
  const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const apply = () => {
    const wanted = text.value.trim().toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of rows) {
      const own = words.get(row);
      row.hidden = !(wanted.every((word) => own.includes(word)) && filters.every((filter) => filter.passes(row)));
      shown += !row.hidden;
    }
    count.textContent = shown === rows.length ? "" : `${shown} of ${rows.length} lines`;
  };
  const clear = element("button", { type: "button", className: "plain" }, "Show all");
  const inputs = [text, ...filters.flatMap((filter) => filter.inputs)];
  const reset = () => {
    for (const input of inputs) input.value = input.tagName === "SELECT" ? "*" : "";
    apply();
  };
  clear.addEventListener("click", reset);
  for (const input of inputs) input.addEventListener("input", apply);
  const bar = element("div", { className: "filters", role: "search", "aria-label": table.dataset.filters || "Filter the table" });
  bar.append(labelled("Filter", text), ...filters.flatMap((filter) => filter.fields), clear, count);
  table.closest(".scroll").before(bar);
  document.addEventListener("reveal", (event) => {
    if (event.detail.closest("tr[hidden]")?.closest("table") === table) reset();
  });
}
