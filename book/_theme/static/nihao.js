// What the page itself does: light and dark, sidebar, search dialog, fullscreen, the mark in
// the page's contents, copying code, marking the words of a search. The text needs none of it.
// No name leaves this file.
(() => {
  "use strict";
  const root = document.documentElement;
  const find = (selector) => document.querySelector(selector);

  const remember = (key, value) => {
    try {
      localStorage.setItem(key, value);
    } catch {
      // Storage is switched off: the choice holds for this page.
    }
  };

  const recall = (key) => {
    try {
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  };

  // Light and dark: the button goes round the three modes; "auto" follows the system.
  const startTheme = () => {
    const modes = ["auto", "light", "dark"];
    const names = { auto: "跟随系统", light: "浅色", dark: "深色" };
    const button = find(".theme-switch-button");
    const system = matchMedia("(prefers-color-scheme: dark)");
    const apply = (mode) => {
      root.dataset.mode = mode;
      root.dataset.theme = mode !== "auto" ? mode : system.matches ? "dark" : "light";
      const next = names[modes[(modes.indexOf(mode) + 1) % modes.length]];
      button.title = `外观：${names[mode]}（按一下换成${next}）`;
      button.setAttribute("aria-label", button.title);
    };
    button.addEventListener("click", () => {
      const mode = modes[(modes.indexOf(root.dataset.mode) + 1) % modes.length];
      remember("mode", mode);
      apply(mode);
    });
    system.addEventListener("change", () => apply(root.dataset.mode));
    apply(root.dataset.mode);
  };

  // The sidebar: on a wide screen the button folds it away, on a narrow one it comes in over
  // the text, and everything behind it is out of reach until it is closed.
  const startSidebar = () => {
    const button = find(".sidebar-toggle");
    const sidebar = find(".site-sidebar");
    const backdrop = find(".sidebar-backdrop");
    const narrow = matchMedia("(max-width: 61.99rem)");
    const isShown = () =>
      narrow.matches
        ? root.classList.contains("sidebar-open")
        : !root.classList.contains("sidebar-folded");
    const show = (shown) => {
      root.classList.toggle("sidebar-open", narrow.matches && shown);
      if (!narrow.matches) {
        root.classList.toggle("sidebar-folded", !shown);
        remember("sidebar", shown ? "shown" : "folded");
      }
      update();
    };
    const update = () => {
      const over = narrow.matches && isShown();
      button.setAttribute("aria-expanded", String(isShown()));
      backdrop.hidden = !over;
      for (const part of document.querySelectorAll(".page, .page-toc, .site-footer"))
        part.inert = over;
    };
    const close = () => {
      show(false);
      button.focus();
    };
    button.addEventListener("click", () => {
      show(!isShown());
      if (narrow.matches && isShown()) sidebar.focus();
    });
    backdrop.addEventListener("click", close);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && narrow.matches && isShown()) close();
    });
    narrow.addEventListener("change", () => {
      root.classList.remove("sidebar-open");
      update();
    });
    root.classList.toggle("sidebar-folded", recall("sidebar") === "folded");
    update();
    sidebar.querySelector(".current")?.scrollIntoView({ block: "nearest" });
  };

  // Search: the button, "/" and Ctrl/⌘+K open a dialog; its form leads to the search page.
  const startSearch = () => {
    const dialog = find(".search-dialog");
    const open = () => {
      if (!dialog.open) dialog.showModal();
      dialog.querySelector("input").select();
    };
    find(".search-button").addEventListener("click", (event) => {
      event.preventDefault();
      open();
    });
    find(".search-button").addEventListener("keydown", (event) => {
      if (event.key !== " ") return;
      event.preventDefault();
      open();
    });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
    });
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
      const command = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k";
      const slash = event.key === "/" && !typing && !event.ctrlKey && !event.metaKey;
      if (!command && !slash) return;
      event.preventDefault();
      open();
    });
  };

  const startFullscreen = () => {
    const button = find(".fullscreen-button");
    if (!document.fullscreenEnabled) {
      button.remove();
      return;
    }
    button.addEventListener("click", () => {
      if (document.fullscreenElement) document.exitFullscreen();
      else root.requestFullscreen();
    });
    document.addEventListener("fullscreenchange", () => {
      button.title = document.fullscreenElement ? "退出全屏" : "全屏";
      button.setAttribute("aria-label", button.title);
    });
  };

  // The page's contents mark the section that is being read: the last one whose heading has
  // passed under the header. At the end of the page, where headings can go up no further, it
  // is the one that was asked for, or the last.
  const startContents = () => {
    const entries = [...document.querySelectorAll(".page-toc a[href^='#']")]
      .map((link) => [link, document.getElementById(decodeURIComponent(link.hash.slice(1)))])
      .filter(([, section]) => section);
    if (!entries.length) return;
    const box = find(".page-toc");
    let waiting = false;
    const mark = () => {
      waiting = false;
      let current = null;
      for (const [link, section] of entries)
        if (section.getBoundingClientRect().top < 120) current = link;
      if (scrollY + innerHeight > root.scrollHeight - 4 && scrollY > 0) {
        const asked = entries.find(([link]) => link.hash === location.hash);
        const seen = asked && asked[1].getBoundingClientRect().bottom > 0;
        current = (seen ? asked : entries.at(-1))[0];
      }
      for (const [link] of entries)
        if (link === current) link.setAttribute("aria-current", "location");
        else link.removeAttribute("aria-current");
      // Long contents scroll along, so that the mark stays in sight.
      if (!current) return;
      const { top, bottom } = current.getBoundingClientRect();
      const frame = box.getBoundingClientRect();
      if (top < frame.top || bottom > frame.bottom)
        box.scrollTop += (top + bottom - frame.top - frame.bottom) / 2;
    };
    const later = () => {
      if (!waiting) requestAnimationFrame(mark);
      waiting = true;
    };
    addEventListener("scroll", later, { passive: true });
    addEventListener("resize", later);
    mark();
  };

  const copyText = async (text) => {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    // A page opened over plain http has no clipboard object.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("copying was refused");
  };

  const startCopy = () => {
    for (const box of document.querySelectorAll("main .highlight")) {
      if (box.closest(".cell_output")) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "copy-button";
      button.textContent = "复制";
      button.setAttribute("aria-label", "复制这段代码");
      button.addEventListener("click", async () => {
        try {
          await copyText(box.querySelector("pre").textContent.replace(/\n$/, ""));
          button.textContent = "已复制";
        } catch {
          button.textContent = "没有复制成";
        }
        setTimeout(() => (button.textContent = "复制"), 1500);
      });
      box.append(button);
    }
  };

  // A box that scrolls sideways can be reached and scrolled by keyboard.
  const startScrollers = () => {
    const names = { PRE: "代码（可以左右滚动）", DIV: "表格（可以左右滚动）" };
    const update = () => {
      for (const box of document.querySelectorAll("main pre, .table-wrap")) {
        const wide = box.scrollWidth > box.clientWidth;
        if (wide === box.hasAttribute("tabindex")) continue;
        if (wide) {
          box.tabIndex = 0;
          box.setAttribute("role", "group");
          box.setAttribute("aria-label", names[box.tagName]);
        } else for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
      }
    };
    addEventListener("resize", update);
    addEventListener("load", update);
    // What a folded box holds has a width only when it is opened.
    document.addEventListener("toggle", update, { capture: true });
    update();
  };

  // A search result leads to page.html?highlight=words: they are marked until Escape.
  const startHighlight = () => {
    const words = new URLSearchParams(location.search).get("highlight")?.toLowerCase();
    const terms = words?.split(/\s+/).filter(Boolean) ?? [];
    if (!terms.length) return;
    const walker = document.createTreeWalker(find("main"), NodeFilter.SHOW_TEXT, (node) =>
      node.parentElement.closest(".katex, script, style, button, svg")
        ? NodeFilter.FILTER_REJECT
        : NodeFilter.FILTER_ACCEPT,
    );
    const ranges = [];
    while (walker.nextNode()) {
      const text = walker.currentNode.data.toLowerCase();
      for (const term of terms)
        for (let at = text.indexOf(term); at >= 0; at = text.indexOf(term, at + term.length))
          ranges.push({ node: walker.currentNode, at, end: at + term.length });
    }
    // From the back, so that an earlier place in the same text stays where it is.
    ranges.sort((a, b) => b.at - a.at);
    const marked = new Map();
    for (const { node, at, end } of ranges) {
      if (end > (marked.get(node) ?? Infinity)) continue;
      const mark = document.createElement("mark");
      const rest = node.splitText(at);
      rest.splitText(end - at);
      rest.replaceWith(mark);
      mark.append(rest);
      marked.set(node, at);
    }
    const clear = (event) => {
      if (event.key !== "Escape") return;
      for (const mark of document.querySelectorAll("main mark")) mark.replaceWith(...mark.childNodes);
      document.removeEventListener("keydown", clear);
    };
    document.addEventListener("keydown", clear);
  };

  startTheme();
  startSidebar();
  startSearch();
  startFullscreen();
  startContents();
  startCopy();
  startScrollers();
  startHighlight();
})();
