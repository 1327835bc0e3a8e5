// Tables sort by a click on a column's name; without this script they are in the order of the sweep.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const place = new Map();
  let column = 0;
  for (const head of heads) {
    place.set(head, column);
    column += head.colSpan;
  }
  const textOf = (row, at) => row.cells[at].dataset.value ?? row.cells[at].textContent.trim();
  const sortBy = (head, down) => {
    const at = place.get(head);
    const values = new Map([...body.rows].map((row) => [row, textOf(row, at)]));
    const compare = (first, second) => {
      const [a, b] = [values.get(first), values.get(second)];
      if (a === "" || b === "") return (a === "") - (b === "");
      // Swept values may be numbers or words.
      const order = isNaN(a) || isNaN(b) ? a.localeCompare(b, undefined, { numeric: true }) : Number(a) - Number(b);
      return down ? -order : order;
    };
    body.append(...[...body.rows].sort(compare));
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  };
  for (const head of heads) {
    if (!("sort" in head.dataset)) continue;
    const button = element("button", { type: "button", className: "sort" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sorted = head.getAttribute("aria-sort");
      // Where high is good (data-sort="down"), the first click brings the highest to the top.
      sortBy(head, sorted === null ? head.dataset.sort === "down" : sorted === "ascending");
    });
  }
}
