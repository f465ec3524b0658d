"use strict";

// Of the figures of a panel with a chooser one is shown.
function choose(panel, chosen) {
  panel.querySelectorAll("figure.plot").forEach((figure, index) => {
    figure.hidden = index !== chosen;
  });
}

// Numbers as numbers, text as text, empty cells last in either order.
function compare(one, other, sign) {
  if (one === "" || other === "") return (one === "") - (other === "");
  const difference = Number(one) - Number(other);
  return sign * (Number.isNaN(difference) ? one.localeCompare(other) : difference);
}

function sort(event) {
  const head = event.target.closest("th");
  const ascending = head.getAttribute("aria-sort") !== "ascending";
  const value = (row) => row.cells[head.cellIndex].dataset.value;
  head.parentElement.querySelectorAll("th").forEach((other) => other.setAttribute("aria-sort", "none"));
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const body = head.closest("table").tBodies[0];
  body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b), ascending ? 1 : -1)));
}

function filter(event) {
  const table = event.target.closest(".table");
  const wanted = [...table.querySelectorAll(".filter")].filter((select) => select.value !== "");
  for (const row of table.querySelector("tbody").rows) {
    row.hidden = wanted.some((select) => row.cells[select.dataset.column].textContent !== select.value);
  }
}

function on(selector, event, handler) {
  document.querySelectorAll(selector).forEach((element) => element.addEventListener(event, handler));
}

document.querySelectorAll(".chooser").forEach((select) => {
  const panel = select.closest(".panel");
  select.addEventListener("change", () => choose(panel, Number(select.value)));
  choose(panel, 0);
});
on(".filter", "change", filter);
on("th button", "click", sort);
