// A formula that is wider than the page scrolls in its own box; the keyboard must reach that box.
"use strict";

(() => {
  const formulas = document.querySelectorAll("div.math");
  const update = () => {
    for (const formula of formulas) {
      if (formula.scrollWidth > formula.clientWidth) {
        formula.tabIndex = 0;
        formula.setAttribute("role", "group");
        formula.setAttribute("aria-label", "公式（可以左右滚动）");
      } else {
        for (const name of ["tabindex", "role", "aria-label"]) formula.removeAttribute(name);
      }
    }
  };
  update();
  addEventListener("load", update);
  addEventListener("resize", update);
})();
