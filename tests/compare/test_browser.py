"""The HTML report in a real browser, at phone and desktop widths, in light and dark."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path; `apt-get install chromium`"),
]

PROBE = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe src="report.html" style="border:0;width:{width}px;height:2000px" onload="
  const page = this.contentDocument, root = page.documentElement;
  const box = page.querySelector('main').getBoundingClientRect();
  const style = element => this.contentWindow.getComputedStyle(element);
  const inside = text => {{
    const own = text.getBoundingClientRect(), frame = text.closest('svg').getBoundingClientRect();
    return own.left >= frame.left - 1 && own.right <= frame.right + 1 && own.bottom <= frame.bottom + 1;
  }};
  const texts = [...page.querySelectorAll('svg text')];
  document.body.append(Object.assign(document.createElement('pre'), {{textContent: JSON.stringify({{
    width: root.clientWidth, scroll: root.scrollWidth, main: box.width,
    figures: [...page.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect().width),
    smallest: Math.min(...texts.map(text => text.getBoundingClientRect().height)),
    outside: texts.filter(text => !inside(text)).map(text => text.textContent),
    paper: style(page.body).backgroundColor, ink: style(page.body).color,
    drawn: style(texts[0]).fill, headline: page.querySelector('h1').textContent,
  }})}}));
"></iframe>"""


@pytest.fixture(scope="module", params=[(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")], ids=str)
def seen(request, good):
    """What the browser laid out: sizes in CSS pixels, colours as computed."""
    width, scheme = request.param
    probe = good.out / f"probe-{width}-{scheme}.html"
    probe.write_text(PROBE.format(width=width), encoding="utf-8")
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom",
        "--allow-file-access-from-files",
        "--virtual-time-budget=5000", f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
        "--window-size=1400,2200", probe.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    found = re.search(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    assert found is not None, done.stdout[-2000:] + done.stderr[-2000:]
    return {**json.loads(unescape(found[1])), "asked": width, "scheme": scheme}


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)` (WCAG 2)."""
    channels = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """Contrast ratio of two colours (WCAG 2)."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_nothing_sticks_out_of_the_page(seen):
    assert seen["width"] == seen["asked"]
    assert seen["scroll"] <= seen["width"]


def test_figures_fill_a_phone_and_stand_two_abreast_on_a_desk(seen):
    assert len(seen["figures"]) == 4
    share = min(seen["figures"]) / seen["main"]
    assert share > 0.85 if seen["asked"] == 390 else 0.35 < share < 0.5


def test_text_in_figures_is_large_enough_and_inside(seen):
    assert seen["smallest"] >= 8
    assert seen["outside"] == []


def test_text_stands_out_in_both_schemes(seen):
    assert (luminance(seen["paper"]) > 0.5) == (seen["scheme"] == "light")
    assert contrast(seen["ink"], seen["paper"]) >= 7
    assert contrast(seen["drawn"], seen["paper"]) >= 4.5


def test_the_headline_is_the_verdict(seen):
    assert seen["headline"] == "right and rounding agree (P3)"
