// What the theme and the widgets leave undone for readers: loaded at the head of every page, before the theme's own script.

// Where no mode was ever chosen the theme complains in the console, and shows no colours until its script runs.
document.documentElement.dataset.mode ||= "auto";
document.documentElement.dataset.theme ||= matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";

(() => {
  "use strict";

  const set = (element, name, value) => {
    if (value && element.getAttribute(name) !== value) element.setAttribute(name, value);
  };

  // A slider's handle has a role and a position, but neither the name of what it sets nor the value shown beside it.
  const nameSliders = (main) => {
    for (const slider of main.querySelectorAll(".widget-slider")) {
      const name = slider.querySelector(".widget-label")?.textContent.trim();
      const readout = slider.querySelector(".widget-readout");
      for (const handle of slider.querySelectorAll(".noUi-handle")) {
        set(handle, "aria-label", name);
        set(handle, "aria-valuetext", readout?.textContent.trim());
      }
      if (readout && name) {
        set(readout, "role", "textbox");
        set(readout, "aria-label", `${name}, value`);
      }
    }
  };

  // A stack shows one frame and swaps it: say so, and keep its height, or the page would jump at every step.
  const tendStacks = (main) => {
    for (const stack of main.querySelectorAll(".widget-box:not(.widget-vbox, .widget-hbox, .widget-gridbox)")) {
      if (!stack.querySelector("figure") || stack.parentElement.closest("[aria-live]")) continue;
      set(stack, "aria-live", "polite");
      const height = Math.max(parseFloat(stack.style.minHeight) || 0, stack.offsetHeight);
      if (height) stack.style.minHeight = `${height}px`;
    }
  };

  const tendWidgets = () => {
    const main = document.querySelector("main");
    if (!main?.querySelector("script[type='application/vnd.jupyter.widget-view+json']")) return;
    let due = false;
    const tend = () => {
      due = false;
      nameSliders(main);
      tendStacks(main);
    };
    new MutationObserver(() => {
      if (!due) requestAnimationFrame(tend);
      due = true;
    }).observe(main, { subtree: true, childList: true, characterData: true, attributeFilter: ["aria-valuetext"] });
    // Frames of a narrower page are lower.
    window.addEventListener("resize", () => {
      for (const stack of main.querySelectorAll("[aria-live]")) stack.style.minHeight = "";
      tend();
    });
  };

  // On paper nothing can be moved: the picture of all frames stands in for the widget.
  const printed = [];
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details.explore-all:not([open])")) {
      details.open = true;
      printed.push(details);
    }
  });
  window.addEventListener("afterprint", () => {
    for (const details of printed.splice(0)) details.open = false;
  });

  // The arrows that unfold a part in the sidebar, and the buttons that copy a cell, have no name.
  const nameButtons = () => {
    for (const arrow of document.querySelectorAll("nav summary")) {
      set(arrow, "aria-label", `Chapters of ${arrow.closest("li").querySelector("a").textContent}`);
    }
    for (const button of document.querySelectorAll("button[data-tooltip]")) {
      set(button, "aria-label", button.dataset.tooltip);
    }
  };

  // A formula wider than the page scrolls in its own box, which the keyboard has to be able to reach.
  const reachFormulas = () => {
    for (const formula of document.querySelectorAll("mjx-container[display]")) {
      if (formula.scrollWidth > formula.clientWidth) set(formula, "tabindex", "0");
    }
  };
  const tendFormulas = () => {
    window.MathJax?.startup?.promise?.then(reachFormulas);
    window.addEventListener("resize", reachFormulas);
  };

  // What stands above the contents in the sidebar lies in no landmark.
  const nameSidebar = () => {
    const sidebar = document.querySelector(".bd-sidebar-primary");
    if (!sidebar) return;
    set(sidebar, "role", "region");
    set(sidebar, "aria-label", "The book");
  };

  // The bibliography's entries carry a role that has been withdrawn, in a list that then has no items.
  const plainBibliography = () => {
    for (const part of document.querySelectorAll(".citation-list, .citation")) part.removeAttribute("role");
  };

  document.addEventListener("DOMContentLoaded", plainBibliography);
  document.addEventListener("DOMContentLoaded", tendWidgets);
  document.addEventListener("DOMContentLoaded", nameSidebar);
  window.addEventListener("load", tendFormulas);
  window.addEventListener("load", nameButtons); // some are made by scripts
})();
