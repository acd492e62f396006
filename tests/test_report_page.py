"""The report in a real browser: as wide as the window, readable in light and dark, usable from a keyboard."""
import pytest
from browser import CHROMIUM, browser
from report_runs import write_measures, write_run, write_students

from validate import report

pytest.importorskip("jinja2", reason="jinja2: scripts/setup.sh report")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium: apt-get install chromium")
SIZES = ((390, 844), (1280, 800))
OPEN = "document.querySelectorAll('details').forEach(own => own.open = true)"
# Contrast of every text node against the nearest background behind it, by WCAG 2.2's formula; the least.
CONTRAST = """(() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const light = c => c.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = own => {
    for (; own; own = own.parentElement) {
      const c = channels(getComputedStyle(own).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let least = [99, ''], num = 0;
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), own = walker.currentNode.parentElement;
    const box = own.getBoundingClientRect();
    if (!text || !box.width || own.closest('title, desc, style')) continue;
    const style = getComputedStyle(own), svg = own instanceof SVGElement;
    const pair = [light(channels(svg ? style.fill : style.color)), light(behind(own))].sort((a, b) => b - a);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    num++;
    if (contrast < least[0]) least = [contrast, text];
  }
  return [...least, num];
})()"""
WIDTHS = "[document.scrollingElement.scrollWidth, document.scrollingElement.clientWidth]"
# What can be used: visible links, buttons of details, and boxes that scroll.
USABLE = """[...document.querySelectorAll('a[href], summary, [tabindex]')]
  .filter(own => own.checkVisibility()).length"""
LANDMARKS = "['header', 'main', 'nav', 'footer'].map(tag => document.querySelectorAll(tag).length)"
MARK = """(() => { const own = document.activeElement;
  if (own === document.body || own.dataset.seen) return false;
  const box = own.getBoundingClientRect(), style = getComputedStyle(own);
  own.dataset.seen = 1;
  const marked = style.outlineStyle !== 'none' || own.className === 'skip';
  return marked ? 'seen' : own.outerHTML.slice(0, 80); })()"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report of two draws with controls and every measure; names as bad as they come."""
    root = tmp_path_factory.mktemp("report")
    classes = ("an ant", "bee <b>", "n01440764_of_a_long_name_without_any_spaces")
    for draw in range(2):
        for name, control, top1 in (("PRISM & co", "", 0.6), ("random", "random", 0.7)):
            run = write_run(root / f"draw{draw}" / name, classes=classes, seed=draw, control=control)
            write_students(run, {0: top1 + draw / 50})
            write_measures(run)
    return report.main([str(root)])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_it_fits_the_window_and_can_be_read(page, written, tmp_path, width, height, dark):
    page.open(written, width=width, height=height, dark=dark)
    page.run(OPEN)
    scroll, client = page.run(WIDTHS)
    assert scroll <= client == width
    contrast, text, num = page.run(CONTRAST)
    assert contrast >= 4.5 and num > 300, (contrast, text, num)
    page.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000
    verdict = page.run("document.querySelector('.verdict').getBoundingClientRect().bottom")
    assert verdict < height  # on the first screen, and images above it
    strip = page.run("document.querySelector('.strip').getBoundingClientRect().bottom")
    assert 0 < strip < verdict and page.run(
        "[...document.querySelectorAll('.strip img')].every(own => own.naturalWidth && own.alt)")
    said = [own for own in page.said if own[0] in ("Log.entryAdded", "Runtime.consoleAPICalled",
                                                   "Runtime.exceptionThrown")]
    asked = [own["request"]["url"] for method, own in page.said if method == "Network.requestWillBeSent"]
    assert said == [] and {url.partition(":")[0] for url in asked} <= {"file", "data"}


def test_everything_is_reached_by_tab_and_an_image_opens_and_closes_by_enter(page, written):
    page.open(written, width=1280, height=800)
    usable, seen = page.run(USABLE), 0
    assert usable > 30
    page.press("Tab", 9)
    while (found := page.run(MARK)):
        assert found == "seen"
        seen += 1
        page.press("Tab", 9)
    assert seen == usable
    page.run("document.querySelector('a.open').focus()")
    before = page.run("document.activeElement.getBoundingClientRect().width")
    page.press("Enter", 13)
    shown = "document.querySelector('li:target img')?.getBoundingClientRect().width ?? 0"
    assert page.run(shown) > 4 * before
    page.press("Tab", 9)
    for _ in range(2):
        if page.run("document.activeElement.className") != "close":
            page.press("Tab", 9)
    assert page.run("document.activeElement.className") == "close"
    page.press("Enter", 13)
    assert page.run(shown) == 0


def test_its_structure_is_told_to_a_screen_reader(page, written):
    page.open(written, width=1280, height=800)
    levels = page.run("[...document.querySelectorAll('h1, h2, h3')].map(own => +own.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    assert page.run("document.documentElement.lang") == "en"
    assert page.run(LANDMARKS) == [1, 1, 1, 1]
    assert page.run("[...document.querySelectorAll('table')].every(own => own.caption && own.querySelector("
                    "'th[scope=row]'))")
    assert page.run("[...document.querySelectorAll('svg[role=img]')].every(own => own.getAttribute("
                    "'aria-labelledby').split(' ').every(id => document.getElementById(id).textContent))")
    names = page.call("Accessibility.getFullAXTree")["nodes"]
    links = [own["name"]["value"] for own in names if own.get("role", {}).get("value") == "link"]
    assert links and all(links)
