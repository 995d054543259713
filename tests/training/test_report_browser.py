"""The page in a real browser: it complains of nothing, asks for nothing, fits, can be read, and its legend works."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.training.browsers import browser, tab
from tests.training.evaluations import sample
from training.report import render

_WIDTHS = {"a desk": 1_280, "a phone": 360}
_SCHEMES = ("light", "dark")

# Every drawing with its size; those in the legend are small on purpose.
_SIZES = """[...document.querySelectorAll('.plot>svg, .track>svg')].map(svg => {
  const box = svg.getBoundingClientRect(); return [svg.getAttribute('aria-label'), box.width, box.height];})"""

# The least contrast of any text to what lies behind it, as WCAG 2 counts it, and which text that is.
_CONTRAST = """(() => {
  const brush = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const painted = colours => { for (const colour of colours) { brush.fillStyle = colour; brush.fillRect(0, 0, 1, 1); }
    return light(brush.getImageData(0, 0, 1, 1).data); };
  let least = [99, ''];
  for (const element of document.body.querySelectorAll('*')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || element.closest('svg') || !element.getClientRects().length) continue;
    const behind = [];
    for (let at = element; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
    const ground = painted(behind), ink = painted([...behind, getComputedStyle(element).color]);
    const found = (Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05);
    if (found < least[0]) least = [found, element.tagName + ' ' + element.className + ': ' + element.textContent];
  }
  return least; })()"""

_HOVER = """(() => { const box = document.querySelector('#equity .plot').getBoundingClientRect();
  const at = document.elementFromPoint(box.left + box.width * 0.3, box.top + box.height * 0.5);
  return [box.left + box.width * 0.3, box.top + box.height * 0.5, at.dataset.told]; })()"""
_SHOWN = """getComputedStyle(document.querySelector('#equity .hits i:hover'), '::after').content"""
_LINES = """[...document.querySelectorAll('#equity .plot')][0].querySelectorAll('.line').length + ' ' +
  [...[...document.querySelectorAll('#equity .plot')][0].querySelectorAll('.line')]
  .filter(line => getComputedStyle(line).display !== 'none').length"""


async def _looked_at(path: Path) -> dict[str, Any]:
    """Return what a browser shows of the page."""
    found: dict[str, Any] = {}
    async with tab() as page:
        await page.open(path)
        for place, width in _WIDTHS.items():
            for scheme in _SCHEMES:
                await page.show(width, scheme)
                found[f"sizes {place}"] = await page.evaluate(_SIZES)
                found[f"contrast {place} {scheme}"] = await page.evaluate(_CONTRAST)
                found[f"beyond {place}"] = await page.evaluate(
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                found[f"page {scheme}"] = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        await page.show(1_280, "light")
        await page.evaluate("document.documentElement.style.scrollBehavior = 'auto'; "
                            "document.querySelector('#equity').scrollIntoView()")  # fmt: skip
        x, y, found["told"] = await page.evaluate(_HOVER)
        await page.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        found["shown"] = await page.evaluate(_SHOWN)
        found["lines"] = await page.evaluate(_LINES)
        await page.evaluate("document.querySelector('#equity .k-s1 input').click()")
        found["lines without one"] = await page.evaluate(_LINES)
        printed = await page.ask("Page.printToPDF", printBackground=True)
        found["printed"] = len(printed["data"])
        found["complaints"] = page.of("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        found["asked for"] = [told["request"]["url"] for told in page.of("Network.requestWillBeSent")]
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    browser()
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(sample(symbols=("BTC/USDT", "ETH/USDT"))), encoding="utf-8")
    return {"path": path, **asyncio.run(_looked_at(path))}


def test_the_browser_complains_of_nothing_and_asks_for_nothing_but_the_page(seen: dict[str, Any]) -> None:
    assert seen["complaints"] == []
    assert seen["asked for"] == [seen["path"].as_uri()]


@pytest.mark.parametrize("place", _WIDTHS)
def test_every_drawing_has_its_size(seen: dict[str, Any], place: str) -> None:
    sizes = seen[f"sizes {place}"]
    assert len(sizes) > 50
    assert [size for size in sizes if size[1] < 100.0 or size[2] < 20.0] == []


@pytest.mark.parametrize("place", _WIDTHS)
def test_nothing_makes_the_page_wider_than_the_screen(seen: dict[str, Any], place: str) -> None:
    assert seen[f"beyond {place}"] == 0


@pytest.mark.parametrize("scheme", _SCHEMES)
@pytest.mark.parametrize("place", _WIDTHS)
def test_all_text_has_the_contrast_it_takes_to_be_read(seen: dict[str, Any], place: str, scheme: str) -> None:
    least, text = seen[f"contrast {place} {scheme}"]
    assert least >= 4.5, text


def test_it_is_light_or_dark_as_the_reader_likes(seen: dict[str, Any]) -> None:
    light, dark = (sum(map(int, seen[f"page {scheme}"][4:-1].split(","))) for scheme in _SCHEMES)
    assert light > 600
    assert dark < 150


def test_pointing_at_the_chart_shows_its_values(seen: dict[str, Any]) -> None:
    assert "buy and hold: " in seen["told"]
    assert seen["shown"].replace("\\a ", "\n").strip('"') == seen["told"]


def test_unticking_a_name_hides_its_line_alone(seen: dict[str, Any]) -> None:
    assert seen["lines"] == "7 7"
    assert seen["lines without one"] == "7 6"


def test_it_can_be_printed(seen: dict[str, Any]) -> None:
    assert seen["printed"] > 50_000
