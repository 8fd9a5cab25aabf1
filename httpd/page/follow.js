// Appends the text of a file as it is written, and says how it ended.
"use strict";
(async () => {
  const pre = document.querySelector("pre"), state = document.querySelector(".state");
  const say = (name, text) => { state.className = "state " + name; state.textContent = text; };
  const atEnd = () => innerHeight + scrollY >= document.documentElement.scrollHeight - 40;
  const keep = 4 << 20;
  try {
    const answer = await fetch(location.pathname);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    say("growing", "following");
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const follow = atEnd();
      pre.append(value);
      while (pre.childNodes.length > 1 && pre.textContent.length > keep) pre.firstChild.remove();
      if (follow) scrollTo(0, document.documentElement.scrollHeight);
    }
    say("complete", "complete");
  } catch (error) {
    say("aborted", "ended early");
  }
})();
