"""How a live figure looks in the page: that it fits, and that its texts stand out."""

from __future__ import annotations

from typing import Any

# Every visible text of the figure with less contrast than WCAG AA asks of small text. A browser's
# canvas puts the (possibly translucent) grounds on each other; what is switched off is exempt.
PALE = """(root) => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  const luminance = (layers) => {
    for (const layer of layers) {
      context.fillStyle = layer;
      context.fillRect(0, 0, 1, 1);
    }
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) =>
      part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const pale = [];
  let texts = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.data.trim();
    const off = element.closest(':disabled, [aria-disabled=true], option');
    if (!text || off || !element.checkVisibility({ visibilityProperty: true })) continue;
    const grounds = ['#ffffff'];
    for (let at = element; at; at = at.parentElement) {
      grounds.splice(1, 0, getComputedStyle(at).backgroundColor);
    }
    const style = getComputedStyle(element);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    const [dark, light] = [luminance(grounds), luminance([...grounds, ink])].sort((a, b) => a - b);
    const contrast = (light + 0.05) / (dark + 0.05);
    texts += 1;
    if (contrast < 4.5) pale.push(`${contrast.toFixed(2)}: ${text.slice(0, 30)}`);
  }
  return { texts, pale };
}"""


# Cells are drawn as wide as their labels stand apart; a canvas of another width is squeezed.
SQUEEZED = """(root) => [...root.querySelectorAll('.nl-heatmap canvas')].filter(
  (canvas) => Math.abs(canvas.getBoundingClientRect().width - parseFloat(canvas.style.width)) > 1
).length"""


def assert_fits_and_is_legible(page: Any, figure: Any, *, dark: bool) -> None:
    """Inside the page, which does not scroll sideways; in its theme; nothing squeezed or pale."""
    width = page.evaluate("document.documentElement.clientWidth")
    box = figure.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width + 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert figure.get_attribute("data-nl-theme") == ("dark" if dark else "light")
    assert figure.evaluate(SQUEEZED) == 0
    found = figure.evaluate(PALE)
    assert found["texts"] > 20
    assert found["pale"] == []
