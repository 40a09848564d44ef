// Searches the book's text (searchindex.js) and fills the search page.
//
// A query is found wherever its characters stand in a row. Case, width, blanks, hyphens and the
// signs _ and ^ do not count: 「layer norm」 finds LayerNorm, 「d_k」 finds dₖ, 「你好世界」 finds 你 好 世 界.
"use strict";

const bookSearch = (() => {
  const IGNORED = /[\s\u200b\-\u2010-\u2015_^]/g;
  const LATIN = /[\p{Script=Latin}\p{Script=Greek}\p{Nd}]/u;
  const BEFORE = 30; // characters shown before the first hit, and after it
  const AFTER = 110;
  const PAGE_SIZE = 30;

  const folds = new Map();
  const sections = [];

  /** One character as it counts in a comparison; "" if it does not. */
  function foldCharacter(character) {
    let folded = folds.get(character);
    if (folded === undefined) {
      folded = character.normalize("NFKC").toLowerCase().replace(IGNORED, "");
      folds.set(character, folded);
    }
    return folded;
  }

  /** Text → what counts of it, and for each of its characters the place in `text`. */
  function fold(text) {
    const places = [];
    let folded = "";
    let place = 0;
    for (const character of text) {
      const part = foldCharacter(character);
      for (let i = 0; i < part.length; i++) places.push(place);
      folded += part;
      place += character.length;
    }
    places.push(place);
    return { text, folded, places };
  }

  /** Take the book's pages: [{url, sections: [[anchor, heading, text], …]}, …]. */
  function load(pages) {
    for (const page of pages) {
      const pageTitle = fold(page.sections[0][1]);
      page.sections.forEach(([anchor, heading, text], i) => {
        sections.push({
          url: page.url,
          anchor,
          pageTitle,
          isPage: i === 0,
          heading: fold(heading),
          body: fold(text),
        });
      });
    }
  }

  const isLatin = (character) => character !== undefined && LATIN.test(character);

  /** Where the folded `term` stands in a folded text: [start, end] in the text itself. */
  function hits({ text, folded, places }, term) {
    const found = [];
    const latin = [isLatin(term[0]), isLatin(term[term.length - 1])];
    const short = latin[0] && latin[1] && term.length < 3;
    for (let at = folded.indexOf(term); at >= 0; at = folded.indexOf(term, at + term.length)) {
      const start = places[at];
      const last = places[at + term.length - 1];
      const end = last + (text.codePointAt(last) > 0xffff ? 2 : 1);
      const whole =
        !(latin[0] && isLatin(text[start - 1])) && !(latin[1] && isLatin(text[end]));
      // One or two letters stand inside too many words to mean anything there.
      if (whole || !short) found.push({ start, end, whole });
    }
    return found;
  }

  /** How well one term fits a section; 0 if it does not stand there. */
  function fit(section, term) {
    const inBody = hits(section.body, term);
    const inHeading = hits(section.heading, term);
    const inTitle = hits(section.pageTitle, term);
    if (!inBody.length && !inHeading.length) return 0;
    let score = 10 * Math.log2(1 + inBody.length);
    if (inHeading.length) score += section.heading.folded === term ? 900 : 400;
    if (inHeading.length && section.isPage) score += 200;
    if (inTitle.length) score += 50;
    if ([...inHeading, ...inBody].some((hit) => hit.whole)) score += 60;
    return score;
  }

  /** Sections in which all `terms` stand, with their scores. */
  function sectionsWithAll(terms) {
    const found = new Map();
    for (const section of sections) {
      const fits = terms.map((term) => fit(section, term));
      if (fits.every((score) => score > 0)) found.set(section, Math.min(...fits));
    }
    return found;
  }

  /** Sections of the pages in which all `terms` stand, though in no one section. */
  function sectionsOfPagesWithAll(terms) {
    const found = new Map();
    for (const url of new Set(sections.map((section) => section.url))) {
      const page = sections.filter((section) => section.url === url);
      const fits = terms.map((term) => page.map((section) => fit(section, term)));
      if (!fits.every((scores) => scores.some((score) => score > 0))) continue;
      page.forEach((section, i) => {
        const score = fits.reduce((sum, scores) => sum + Math.min(scores[i], 100), 0);
        if (score > 0) found.set(section, score);
      });
    }
    return found;
  }

  /** A query as folded terms: at its blanks, or (`finer`) also where Chinese meets Latin. */
  function termsOf(query, finer) {
    const cut = finer
      ? query.replace(/(?<=\p{Script=Han})(?=[\w√])|(?<=\w)(?=\p{Script=Han})/gu, " ")
      : query;
    const terms = cut.split(/[\s，。、；：？！,;?!"“”「」『』]+/u).map((word) => fold(word).folded);
    return [...new Set(terms.filter(Boolean))];
  }

  /**
   * Search: [{section, terms, score}, …], best first. The whole query in a row comes before its
   * words apart; only where neither stands in any section do wider readings of it count.
   */
  function search(query) {
    const words = termsOf(query, false);
    if (!words.length) return [];
    // As it is typed, or else without its punctuation.
    let whole = fold(query).folded;
    let phrase = sectionsWithAll([whole]);
    if (!phrase.size) {
      whole = words.join("");
      phrase = sectionsWithAll([whole]);
    }
    const results = [...phrase].map(([section, score]) => ({
      section,
      terms: [whole],
      score: score + 1000,
    }));
    const add = (found, terms) => {
      for (const [section, score] of found) {
        if (!phrase.has(section)) results.push({ section, terms, score });
      }
    };
    if (words.length > 1) add(sectionsWithAll(words), words);
    const parts = termsOf(query, true);
    if (!results.length && parts.length > 1) add(sectionsWithAll(parts), parts);
    if (!results.length && parts.length > 1) add(sectionsOfPagesWithAll(parts), parts);
    return results.sort((a, b) => b.score - a.score); // stable: equals stay in the book's order
  }

  /** The text around the hits: [{text, hit}, …]. */
  function snippet({ text, ...rest }, terms) {
    const all = terms
      .flatMap((term) => hits({ text, ...rest }, term))
      .sort((a, b) => a.start - b.start);
    const from = all.length ? Math.max(0, all[0].start - BEFORE) : 0;
    const to = Math.min(text.length, (all.length ? all[0].end : 0) + AFTER);
    const pieces = from > 0 ? [{ text: "…", hit: false }] : [];
    let at = from;
    for (const { start, end } of all) {
      if (start < at || end > to) continue;
      if (start > at) pieces.push({ text: text.slice(at, start), hit: false });
      pieces.push({ text: text.slice(start, end), hit: true });
      at = end;
    }
    if (to > at) pieces.push({ text: text.slice(at, to), hit: false });
    if (to < text.length) pieces.push({ text: "…", hit: false });
    return pieces;
  }

  // ------------------------------------------------------------------ the search page

  function append(parent, tag, className, pieces) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    for (const { text, hit } of pieces) {
      if (hit) element.appendChild(document.createElement("mark")).textContent = text;
      else element.append(text);
    }
    parent.append(element);
    return element;
  }

  /** One result: a link that names page and section, and the text around the hits. */
  function appendResult(list, { section, terms }) {
    const { url, anchor, pageTitle, isPage, heading, body } = section;
    const pieces = snippet(heading, terms);
    if (!isPage) pieces.unshift({ text: `${pageTitle.text} › `, hit: false });
    const item = append(list, "li", "", []);
    const link = append(item, "a", "", pieces);
    const shown = terms.flatMap((term) => {
      const field = hits(body, term).length ? body : heading;
      return hits(field, term)
        .slice(0, 1)
        .map(({ start, end }) => field.text.slice(start, end));
    });
    // The page marks what `highlight` names.
    const marks = shown.length ? `?highlight=${encodeURIComponent(shown.join(" "))}` : "";
    link.href = `${url}${marks}${anchor && "#"}${anchor}`;
    if (body.text) append(item, "p", "context", snippet(body, terms));
  }

  /** Show the results of a query, some at a time. */
  function show(query, output, status) {
    const results = search(query);
    output.replaceChildren();
    if (!query.trim()) status.textContent = "";
    else if (results.length) status.textContent = `找到 ${results.length} 处。`;
    else status.textContent = "没有找到。试试更短的词，或者用空格把几个词隔开。";
    if (!results.length) return;
    const list = append(output, "ul", "search", []);
    const more = append(output, "button", "search-more", [{ text: "再显示一些", hit: false }]);
    more.type = "button";
    const showMore = () => {
      const first = list.children.length;
      for (const result of results.splice(0, PAGE_SIZE)) appendResult(list, result);
      more.hidden = !results.length;
      if (first) list.children[first].querySelector("a").focus();
    };
    more.addEventListener("click", showMore);
    showMore();
  }

  /** Connect the search page: the query in its address, and what is typed into its field. */
  function start() {
    const output = document.getElementById("search-results");
    const status = document.getElementById("search-progress");
    const field = document.querySelector("main input[name=q]");
    field.value = new URLSearchParams(location.search).get("q") ?? "";
    show(field.value, output, status);
    const update = () => show(field.value, output, status);
    field.addEventListener("input", (event) => event.isComposing || update());
    field.addEventListener("compositionend", update);
    field.focus();
  }

  if (typeof document !== "undefined") document.addEventListener("DOMContentLoaded", start);
  return { load, search, snippet };
})();
