// Read before require.js: modules, and the widget manager's icon fonts, lie below the vendor folder beside this file.
window.require = { baseUrl: new URL("vendor", document.currentScript.src).href };
