// Keeps an open page current: parts of it are replaced as the server sends them, and what matters is read out politely.
"use strict";

(() => {
  const SPEAK_EVERY_MS = 8000;
  const AGES_EVERY_MS = 5000;
  const spoken = document.getElementById("spoken");
  const connection = document.getElementById("connection");
  const pause = document.getElementById("pause");
  const address = new URL(document.body.dataset.stream, location.href);
  const FOCUSABLE = "a, button, summary, input, [tabindex]";
  let source = null;
  let pending = null;
  let spokeAt = -SPEAK_EVERY_MS;

  function speak(text) {
    pending = text; // of several in a short time the last one is read out
    const wait = Math.max(0, spokeAt + SPEAK_EVERY_MS - performance.now());
    setTimeout(() => {
      if (pending === null) return;
      spokeAt = performance.now();
      spoken.textContent = pending;
      pending = null;
    }, wait);
  }

  function age(seconds) {
    if (seconds < 5) return "now";
    if (seconds < 90) return `${Math.round(seconds)} s ago`;
    if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
    if (seconds < 129600) return `${Math.round(seconds / 3600)} h ago`;
    return `${Math.round(seconds / 86400)} days ago`;
  }

  function tellAges(root) {
    for (const time of root.querySelectorAll("time[data-ago]")) {
      if (!time.title) time.title = time.textContent;
      time.textContent = age((Date.now() - Date.parse(time.dateTime)) / 1000);
    }
  }

  function replace(name, html) {
    const section = document.getElementById(name);
    if (!section) return;
    const open = [...section.querySelectorAll("details[open]")].map((item) => item.dataset.keep);
    const focused = [...section.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
    const across = section.querySelector(".scroll")?.scrollLeft ?? 0;
    section.innerHTML = html;
    for (const item of section.querySelectorAll("details")) item.open = open.includes(item.dataset.keep);
    const scroll = section.querySelector(".scroll");
    if (scroll) scroll.scrollLeft = across;
    if (focused >= 0) section.querySelectorAll(FOCUSABLE)[focused]?.focus({ preventScroll: true });
    tellAges(section);
  }

  function say(state) {
    connection.textContent = state;
  }

  function listen() {
    source = new EventSource(address);
    source.addEventListener("open", () => say("updates live"));
    source.addEventListener("error", () => say("connection lost, trying again"));
    source.addEventListener("view", (message) => {
      const { title, sections } = JSON.parse(message.data);
      document.title = title;
      for (const [name, html] of Object.entries(sections)) replace(name, html);
    });
    source.addEventListener("happened", (message) => {
      address.searchParams.set("after", message.lastEventId); // for a stream that is opened anew
      const { say: text } = JSON.parse(message.data);
      if (text) speak(text);
    });
    source.addEventListener("end", () => {
      source.close();
      pause.hidden = true;
      say("the run has ended");
    });
  }

  pause.addEventListener("click", () => {
    const stops = source.readyState !== EventSource.CLOSED;
    if (stops) {
      source.close();
      say("updates paused");
    } else {
      listen();
    }
    pause.textContent = stops ? "Go on updating" : "Pause updates";
  });

  connection.hidden = false;
  pause.hidden = false;
  tellAges(document);
  setInterval(() => tellAges(document), AGES_EVERY_MS);
  listen();
})();
