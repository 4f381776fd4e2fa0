"use strict";
// A click on a head sorts by its column: numbers by their full value, texts as a reader would; a second click turns round.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    head.firstElementChild.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => {
        const cell = row.cells[column];
        return cell.dataset.v === undefined ? null : parseFloat(cell.dataset.v);
      };
      const text = (row) => row.cells[column].textContent.trim();
      const compared = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x !== null && y !== null) return down ? y - x : x - y;
        if (x !== null || y !== null) return x !== null ? -1 : 1; // what has no value stays last
        const order = text(a).localeCompare(text(b), undefined, { numeric: true });
        return down ? -order : order;
      };
      body.append(...[...body.rows].sort(compared));
    });
  });
}
