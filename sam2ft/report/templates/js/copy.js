// Tables are copied as a spreadsheet and a text program want them: as a table, and as lines with tabs. Only what is shown
// is copied. An event of copying works from disk, without a permission and without a server.
const copyOut = (plain, html) => {
  const put = (event) => {
    event.clipboardData.setData("text/plain", plain);
    if (html) event.clipboardData.setData("text/html", html);
    event.preventDefault();
  };
  document.addEventListener("copy", put, { once: true });
  const done = document.execCommand("copy");
  document.removeEventListener("copy", put);
  return done;
};
const copier = (words, given) => {
  const button = element("button", { type: "button", className: "plain copy only-screen" }, words);
  button.addEventListener("click", () => {
    button.textContent = copyOut(...given()) ? "Copied" : "Not copied: select it and press Ctrl+C";
    setTimeout(() => (button.textContent = words), 2000);
  });
  return button;
};
// The parts of a cell stand below each other on the page; in a line they need a space between them.
const cellText = (cell) => {
  const copy = cell.cloneNode(true);
  for (const part of copy.querySelectorAll(".ci, .tag, small")) part.prepend(" ");
  return copy.textContent.replace(/\s+/g, " ").trim();
};
const tableOf = (table) => {
  const shown = [...table.rows].filter((row) => !row.hidden);
  const cells = shown.map((row) => [...row.cells].filter((cell) => !cell.classList.contains("drawn")).map(cellText));
  const made = element("table", {}, ...cells.map((row) => element("tr", {}, ...row.map((text) => element("td", {}, text)))));
  return [cells.map((row) => row.join("\t")).join("\n"), made.outerHTML];
};
for (const table of document.querySelectorAll("main .scroll > table")) {
  table.closest(".scroll").after(copier("Copy this table", () => tableOf(table)));
}
const methods = document.getElementById("methods-text");
if (methods) methods.closest("details").before(copier("Copy the methods text", () => [methods.textContent]));
