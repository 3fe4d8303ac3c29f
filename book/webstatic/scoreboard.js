// The scoreboard's filters: pressed buttons of one group widen what shows, each further group narrows it. What is
// pressed stands in the address, as in scoreboard.html#verdict=failed,undecided&week=notes, so that it can be linked.
(() => {
  "use strict";

  const board = document.querySelector(".board-filters");
  if (!board) return;
  const buttons = [...board.querySelectorAll("button[data-filter]")];
  const names = [...new Set(buttons.map((button) => button.dataset.filter))];
  const rows = [...document.querySelectorAll("tr[data-verdict]")];
  const sections = [...document.querySelectorAll("section[id^='board-']")];
  const count = board.querySelector("[role=status]");
  const all = board.querySelector(".board-all");

  const isPressed = (button) => button.getAttribute("aria-pressed") === "true";
  const press = (button, pressed) => button.setAttribute("aria-pressed", String(pressed));
  const chosen = (name) => buttons.filter((b) => b.dataset.filter === name && isPressed(b)).map((b) => b.dataset.value);

  const show = () => {
    const wanted = names.map((name) => [name, chosen(name)]).filter(([, values]) => values.length);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !wanted.every(([name, values]) => values.includes(row.dataset[name]));
      shown += !row.hidden;
    }
    // A statement that goes on from the row above, which is not shown, needs what it goes on from.
    for (const row of rows) row.classList.toggle("apart", row.previousElementSibling?.hidden ?? false);
    for (const section of sections) {
      section.hidden = wanted.length > 0 && !section.querySelector("tr[data-verdict]:not([hidden])");
    }
    all.hidden = wanted.length === 0;
    count.textContent = wanted.length ? `${shown} of ${rows.length} claims` : `${rows.length} claims`;
    return wanted.map(([name, values]) => `${name}=${values.join(",")}`).join("&");
  };

  // Filtering is no step to come back from, so it replaces the address instead of adding to the history.
  const filter = () => history.replaceState(null, "", show() ? `#${show()}` : location.pathname + location.search);

  const read = () => {
    const hash = decodeURIComponent(location.hash.slice(1));
    const target = document.getElementById(hash);
    // A link to a place on the page leaves the filters alone, unless they hide that place.
    if (hash && !hash.includes("=") && !target?.closest("[hidden]")) return;
    const asked = new URLSearchParams(hash);
    for (const button of buttons) {
      press(button, (asked.get(button.dataset.filter) ?? "").split(",").includes(button.dataset.value));
    }
    const place = show() ? board : target;
    place?.scrollIntoView();
  };

  for (const button of buttons) {
    button.addEventListener("click", () => {
      press(button, !isPressed(button));
      filter();
    });
  }
  all.addEventListener("click", () => {
    for (const button of buttons) press(button, false);
    filter();
    buttons[0].focus(); // the button that had the focus is gone
  });
  window.addEventListener("hashchange", read);
  board.hidden = false;
  read();
})();
