"""The page in a real browser: it asks for nothing, complains of nothing, and fits a phone."""

import shutil

import pytest
from playwright.sync_api import Browser, sync_playwright

from eigenscope.explain import html
from eigenscope.explain.derivation import derive
from eigenscope.explain.examples import EXAMPLES

pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def chromium():
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no Chromium ({', '.join(NAMES)}) is on the PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [900, 390])
@pytest.mark.parametrize("name", ["symmetric", "counting"])
def test_the_page_fits_and_asks_for_nothing(chromium: Browser, tmp_path, name, width, scheme):
    derivation = derive(EXAMPLES[name].rows, name=name)
    (tmp_path / "page.html").write_text(html.document(derivation.title, derivation.steps), encoding="utf-8")
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, asked, complaints = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto((tmp_path / "page.html").as_uri())
    assert (asked, complaints) == ([(tmp_path / "page.html").as_uri()], [])
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 23)"
    assert dark == (scheme == "dark")
    height = page.locator("mtable.matrix").first.evaluate("element => element.getBoundingClientRect().height")
    assert height > 25, "the matrix is typeset in rows"
    context.close()
