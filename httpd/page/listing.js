// Keeps the table current: asks for the page again and takes over what differs. The page is
// complete without it.
"use strict";
(() => {
  const here = location.origin + location.pathname; // a path of two slashes would name a host
  const rows = document.querySelector("tbody"), status = document.querySelector("[role=status]");
  const key = row => row.querySelector("a").getAttribute("href");
  const say = text => { if (status.textContent !== text) status.textContent = text; };

  // Cell by cell, so that focus and selection stay where they are.
  const update = (mine, fresh) => [...fresh.cells].forEach((cell, i) => {
    if (!mine.cells[i].isEqualNode(cell)) mine.cells[i].replaceWith(cell);
  });
  const merge = fresh => {
    const left = new Map([...rows.rows].map(row => [key(row), row]));
    const next = [...fresh.rows].map(row => [left.get(key(row)), row]);
    for (const [mine] of next) if (mine) left.delete(key(mine));
    for (const gone of left.values()) gone.remove();
    next.forEach(([mine, row], i) => {
      if (mine) update(mine, row);
      else rows.insertBefore(row, rows.rows[i] || null);
    });
  };

  const turn = async () => {
    const start = performance.now();
    try {
      const answer = await fetch(here, { headers: { Accept: "text/html" } });
      if (!answer.ok) throw new Error("the server says " + answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("#files tbody");
      if (!fresh) return location.reload(); // an index.html has come
      merge(fresh);
      say(page.querySelector("[role=status]").textContent);
    } catch (error) {
      say("Not up to date: " + (error.name === "Error" ? error.message : "the server does not answer"));
    }
    const usual = document.hidden ? 5000 : rows.querySelector(".growing") ? 500 : 1000;
    // A large folder is work for both sides: a fifth of the time is enough.
    setTimeout(turn, Math.max(usual, 4 * (performance.now() - start)));
  };
  setTimeout(turn, 500);
})();
