// The table of scores: sorted by its headers, filtered by metric and system. Without this script it shows every line.
"use strict";

(() => {
  const table = document.querySelector("table.scores");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const filters = document.querySelector("form.filters");
  const count = filters.querySelector(".count");
  const compareText = new Intl.Collator("en", { numeric: true }).compare;

  function filter() {
    const { metric, system } = filters.elements;
    let shown = 0;
    table.classList.toggle("one-metric", metric.value !== "");
    for (const row of rows) {
      row.hidden = (metric.value && row.dataset.metric !== metric.value) || (system.value && row.dataset.system !== system.value);
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} lines`;
  }

  function compare(a, b) {
    const numbers = [a, b].map((cell) => (cell.dataset.value === "inf" ? Infinity : parseFloat(cell.dataset.value)));
    // Infinities are equal, though their difference is no number.
    return a.dataset.value === undefined
      ? compareText(a.textContent, b.textContent)
      : numbers[0] === numbers[1] ? 0 : numbers[0] - numbers[1];
  }

  function sort(header) {
    // The first click puts the best first: the largest number, or the first of the alphabet.
    const first = header.classList.contains("number") ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = header.getAttribute("aria-sort") === first ? other : first;
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const column = header.cellIndex;
    // Cells without a value stay last in either order.
    const missing = (row) => row.cells[column].dataset.value === "";
    rows.sort((a, b) => missing(a) - missing(b) || (missing(a) ? 0 : sign * compare(a.cells[column], b.cells[column])));
    body.append(...rows);
  }

  for (const header of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(header));
    header.append(button);
  }
  document.querySelector("figcaption.sortable").append(" Click a header to sort.");
  filters.hidden = false;
  filters.addEventListener("change", filter);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filter();
})();
