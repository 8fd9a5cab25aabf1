// Keeps the state and size of a file current, and appends its text as it is written.
"use strict";
(() => {
  const SHOWN = 1 << 20; // characters
  const here = location.origin + location.pathname; // a path of two slashes would name a host
  const text = document.querySelector("pre"), early = document.querySelector("#early");
  let at, shown, decoder, file, ended, reading = null;

  const scrollAlong = () => {
    const page = document.documentElement;
    if (innerHeight + scrollY >= page.scrollHeight - 40)
      requestAnimationFrame(() => scrollTo(0, page.scrollHeight));
  };
  const append = bytes => {
    const more = decoder.decode(bytes, { stream: true });
    at += bytes.length;
    if (!more) return;
    scrollAlong();
    text.append(more);
    for (shown += more.length; shown > SHOWN && text.firstChild !== text.lastChild; early.hidden = false) {
      shown -= text.firstChild.length;
      text.firstChild.remove();
    }
  };

  // Up to last; of a growing file to its end, whenever that is. When the answer is cut, the next
  // turn sees how the file is then, and goes on.
  const read = async last => {
    const mine = reading = new AbortController();
    try {
      const answer = await fetch(here, { headers: { Range: `bytes=${at}-${last}` },
                                         cache: "no-store", signal: mine.signal });
      const body = answer.status === 206 ? answer.body.getReader() : null;
      for (let part; body && !(part = await body.read()).done && mine === reading;) append(part.value);
    } catch (error) { /* see above */ }
    if (mine === reading) reading = null;
  };

  // What is shown is always one file from one beginning. Once it has ended, or when another has
  // its name, what comes then is read afresh.
  const begin = page => {
    if (reading) reading.abort();
    const fresh = page.querySelector("pre");
    [at, shown, decoder, ended, reading] = [+fresh.dataset.from, 0, new TextDecoder(), false, null];
    text.replaceChildren();
    early.hidden = !at;
  };
  // before: how it was when the page was asked for. What was being read then and has ended since
  // says more than the page does: the next turn knows how.
  const follow = (page, before, edge, growing, name) => {
    const other = name !== file || edge < before.at || (ended && (growing || edge !== at));
    if (other) begin(page);
    file = name;
    if (!reading && (other || !before.reading) && (growing || edge > at))
      read(growing ? Number.MAX_SAFE_INTEGER : edge - 1);
    ended = !growing && at === edge;
  };

  const look = async () => {
    const answer = await fetch("?view", { cache: "no-store" });
    if (!answer.ok) throw new Error("the server says " + answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of [".state", ".size"]) {
      const mine = document.querySelector(part), now = page.querySelector(part);
      if (!mine.isEqualNode(now)) mine.replaceWith(document.importNode(now, true));
    }
    return page;
  };
  const turn = async () => {
    let pause = 1000;
    try {
      const before = { at, reading }, page = await look(), size = page.querySelector(".size");
      const growing = page.querySelector(".state").textContent === "growing";
      if (text) follow(page, before, +size.value, growing, size.dataset.file);
      if (growing) pause = 500;
    } catch (error) {
      const state = document.querySelector(".state");
      state.className = "state aborted";
      state.textContent = error.name === "Error" ? error.message : "the server does not answer";
    }
    setTimeout(turn, document.hidden ? 5000 : pause);
  };
  turn();
  // Not all browsers let a page begin by itself; autoplay would wait for more than there is.
  document.querySelector("video, audio")?.play().catch(() => {});
})();
