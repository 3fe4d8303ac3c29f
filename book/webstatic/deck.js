// Starts a chapter's slides: mathematics first, then every slide made to fit, then reveal.js.
(() => {
  "use strict";

  // Too much for one slide is set smaller, in steps, until it is not; all lengths of deck.css follow the font.
  const overflows = (slide) =>
    slide.scrollHeight > slide.clientHeight ||
    [...slide.querySelectorAll("mjx-container[display]")].some((formula) => formula.scrollWidth > formula.clientWidth);

  const fit = () => {
    document.documentElement.classList.add("fitting"); // all slides are laid out
    for (const slide of document.querySelectorAll(".slides > section > section")) {
      for (let size = 100; overflows(slide) && size > 50; size -= 3) {
        slide.style.fontSize = `${size}%`;
      }
    }
    document.documentElement.classList.remove("fitting");
  };

  window.MathJax = {
    tex: { inlineMath: [["$", "$"], ["\\(", "\\)"]] },
    // As on the book's pages: the menu would offer files that are not vendored.
    options: { enableMenu: false },
  };

  window.addEventListener("load", async () => {
    await window.MathJax.startup.promise;
    fit();
    await window.Reveal.initialize({
      plugins: [window.RevealNotes],
      width: 1280,
      height: 720,
      margin: 0,
      center: false,
      hash: true,
      navigationMode: "linear", // right goes to the next slide, whatever the deck's columns
      slideNumber: "c/t",
      transition: "none",
    });
  });
})();
