"""The page comes out of the package, typed, checked for age, and allowed to load nothing from elsewhere."""

import pytest


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/index.html", "text/html; charset=utf-8"),
        ("/js/app.js", "text/javascript; charset=utf-8"),
        ("/vendor/uplot/uPlot.min.css", "text/css; charset=utf-8"),
        ("/favicon.svg", "image/svg+xml"),
        ("/vendor/uplot/LICENSE", "text/plain; charset=utf-8"),
    ],
)
def test_a_page_has_its_type(browser, path, media_type):
    response = browser.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == media_type
    assert response.headers["x-content-type-options"] == "nosniff"


def test_a_page_that_the_browser_has_is_not_sent_again(browser):
    first = browser.get("/js/app.js")
    assert first.headers["cache-control"] == "no-cache"
    again = browser.get("/js/app.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert browser.get("/js/app.js", headers={"if-none-match": '"old"'}).status_code == 200


def test_numbers_are_never_cached(browser):
    assert browser.get("/api/runs").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/api/runs", "/api/runs/nobody", "/nothing", "/api/runs/edge/series"])
def test_every_answer_carries_the_content_security_policy(browser, path):
    policy = browser.get(path).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_the_page_names_no_other_site(browser):
    page = browser.get("/").text
    assert "//" not in page.replace("<!--", "").replace("http://www.w3.org/2000/svg", "")
