"use strict";
// Tables sort by a click on a column's name; without this script they are merely in the order of the sweep.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  for (const head of table.tHead.rows[0].cells) {
    if (!("sort" in head.dataset)) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const place = [...head.parentNode.cells].slice(0, head.cellIndex).reduce((sum, cell) => sum + cell.colSpan, 0);
      const value = (row) => row.cells[place].dataset.value ?? row.cells[place].textContent.trim();
      const compare = (first, second) => {
        const [a, b] = [value(first), value(second)];
        if (a === "" || b === "") return (a === "") - (b === "");
        // Swept values may be numbers or words.
        const order = isNaN(a) || isNaN(b) ? a.localeCompare(b) : Number(a) - Number(b);
        return down ? -order : order;
      };
      body.append(...[...body.rows].sort(compare));
    });
  }
}
