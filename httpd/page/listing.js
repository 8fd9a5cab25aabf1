// Keeps sizes and states of the table current. The page is complete without it.
"use strict";
(() => {
  const body = document.querySelector("tbody");
  const bytes = n => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let i = 0;
    while (n >= 1024 && i < units.length - 1) { n /= 1024; i++; }
    return (i && n < 100 ? n.toFixed(1) : Math.floor(n)) + " " + units[i];
  };
  const row = name => [...body.rows].find(r => r.dataset.name === name);
  const show = (r, e) => {
    const state = r.querySelector("span.state"), size = r.querySelector(".size");
    size.textContent = e.declared === undefined ? bytes(e.size)
      : bytes(e.size) + " of " + bytes(e.declared);
    size.title = e.size + " bytes";
    state.className = "state " + e.state;
    state.textContent = e.state === "complete" ? "" : e.state;
  };
  let names;
  const update = async () => {
    let growing = false, changed = false;
    try {
      const answer = await fetch(location.pathname, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(answer.status);
      const list = (await answer.json()).entries;
      for (const e of list) {
        const r = row(e.name);
        if (r && e.type === "file") show(r, e);
        growing = growing || e.state === "growing";
      }
      const now = JSON.stringify(list.map(e => e.name));
      changed = names === undefined ? list.length !== body.querySelectorAll("tr[data-name]").length
        : names !== now;
      names = now;
    } catch (error) { /* the server is away: the next turn tries again */ }
    if (changed) location.reload();
    else setTimeout(update, document.hidden ? 5000 : growing ? 500 : 2000);
  };
  setTimeout(update, 500);
})();
