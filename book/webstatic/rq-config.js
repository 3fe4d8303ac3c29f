// For pages with widgets, read before require.js and the widget manager.

// Modules, and the manager's icon fonts, lie below the vendor folder beside this file.
window.require = { baseUrl: new URL("vendor", document.currentScript.src).href };

// The manager has its labels set by MathJax 2; the site's is MathJax 3, which replaces window.MathJax as it loads.
(() => {
  const Hub = {
    Queue: ([, , element]) => window.MathJax.startup?.promise?.then(() => window.MathJax.typesetPromise([element])),
  };
  const there = window.MathJax;
  let mathjax;
  Object.defineProperty(window, "MathJax", {
    configurable: true,
    get: () => mathjax,
    set: (value) => { mathjax = Object.assign(value, { Hub }); },
  });
  if (there) window.MathJax = there;
})();
