"""How well one colour is read on another: the contrast ratio of WCAG 2."""

import re

TEXT = 4.5
"""What WCAG 2 AA asks of text of ordinary size."""
MARKS = 3.0
"""And of what must be seen to understand a figure."""

FAINT = r"""(least) => {
  const parts = (text) => {
    const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
    return text.startsWith("color(") ? [255 * r, 255 * g, 255 * b, a] : [r, g, b, a];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const luminance = (colour) => {
    const [r, g, b] = colour.map((v) => v / 255).map(
      (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const layer = (part, below, opacity = 1) => {
    const [r, g, b, a] = parts(getComputedStyle(part).backgroundColor);
    return over([r, g, b, a * opacity], below);
  };
  const ground = (part) => {
    const chain = [];
    for (let at = part; at; at = at.parentElement) chain.unshift(at);
    return chain.reduce((below, at) => {
      const under = at.querySelector(":scope > .v-btn__underlay"); // Vuetify tints a button by it
      const own = layer(at, below);
      return under ? layer(under, own, parseFloat(getComputedStyle(under).opacity)) : own;
    }, [255, 255, 255]);
  };
  const LEFT_OUT = "style, script, template, svg, [disabled], .v-input--disabled";
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim();
    const part = texts.currentNode.parentElement;
    if (!text || part.closest(LEFT_OUT)) continue;
    if (!part.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    let opacity = 1;
    for (let at = part; at; at = at.parentElement) opacity *= getComputedStyle(at).opacity;
    const below = ground(part);
    const [r, g, b, a] = parts(getComputedStyle(part).color);
    const pair = [over([r, g, b, a * opacity], below), below].map(luminance).sort((x, y) => y - x);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < least) found.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""
"""For a browser: the texts of a page, as they stand now, that have less contrast than `least`.

Disabled controls are left out, as WCAG does, and so are drawings. What is a picture under a text is
not looked at.
"""


def ratio(one: str, other: str) -> float:
    """Contrast of two colours such as `#1b2027`: 1 (the same) to 21 (black on white)."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def variables(css: str) -> dict[str, str]:
    """The colours of a style sheet's `--name: #rrggbb`, by name; of two the later."""
    return dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6}|#[0-9a-f]{3})\b", css))


def _luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
