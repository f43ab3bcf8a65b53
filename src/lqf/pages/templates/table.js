"use strict";
// Sorts a table by the column whose heading is pressed, and shows the rows that the controls ask for.
const table = document.getElementById("images");
const body = table.tBodies[0];
const rows = [...body.rows];
const headings = [...table.tHead.rows[0].cells];
const value = (row, column) => {
  const cell = row.cells[column];
  const number = cell.dataset.value;
  return number === undefined ? cell.textContent.trim() : Number(number);
};
headings.forEach((heading, column) => {
  const button = heading.querySelector("button");
  if (button === null) return;
  button.addEventListener("click", () => {
    const upward = heading.getAttribute("aria-sort") !== "ascending";
    headings.forEach((one) => one.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", upward ? "ascending" : "descending");
    const sign = upward ? 1 : -1;
    const order = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b));
    body.append(...rows.sort((a, b) => sign * order(value(a, column), value(b, column))));
  });
});
const controls = document.getElementById("controls");
const shown = document.getElementById("shown");
function choose() {
  const wanted = new FormData(controls);
  const text = wanted.get("text").toLowerCase();
  let number = 0;
  rows.forEach((row) => {
    const all =
      (wanted.get("class") === "" || row.dataset.label === wanted.get("class")) &&
      (wanted.get("finding") === "" || row.dataset.findings.split(" ").includes(wanted.get("finding"))) &&
      row.dataset.file.toLowerCase().includes(text);
    row.hidden = !all;
    number += all;
  });
  shown.textContent = `${number} of ${rows.length} images`;
}
controls.addEventListener("input", choose);
controls.addEventListener("submit", (event) => event.preventDefault());
choose();
