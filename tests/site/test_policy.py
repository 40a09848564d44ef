"""The policy of every page: it names nothing foreign, and the browser holds the page to it.

That no page breaks it while its figures are operated is checked by every test that asserts a clean
`Watch`: what the policy blocks counts as a complaint of the page.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from bs4 import BeautifulSoup, Tag
from conftest import HTML, ROOT

sys.path.insert(0, str(ROOT / "book/_ext"))

from nihao_book.policy import content_policy, digest

PAGES = sorted(str(path.relative_to(HTML)) for path in HTML.rglob("*.html"))
CHAPTER = "chapters/05_encoder_decoder.html"
OWN = {"'none'", "'self'", "blob:", "data:", "file:", "'unsafe-inline'"}
FOREIGN = "http://localhost:1"  # another origin than the site's, where nothing answers
# What a foreign or an injected script could be, each with the directive that stops it.
INJECTED = {
    "script-src-elem": f"""() => document.head.append(
        Object.assign(document.createElement('script'), {{ src: '{FOREIGN}/x.js' }}))""",
    "script-src-elem inline": """() => document.head.append(
        Object.assign(document.createElement('script'), { textContent: 'window.broken = 1' }))""",
    "script-src-attr": """() => {
        document.body.setAttribute('onclick', 'window.broken = 1');
        document.body.click();
      }""",
    "img-src": f"() => {{ new Image().src = '{FOREIGN}/x.png'; }}",
    "connect-src": f"() => fetch('{FOREIGN}/').catch(() => {{}})",
    "style-src-elem": f"""() => document.head.append(Object.assign(
        document.createElement('link'), {{ rel: 'stylesheet', href: '{FOREIGN}/x.css' }}))""",
    "frame-src": f"""() => document.body.append(
        Object.assign(document.createElement('iframe'), {{ src: '{FOREIGN}/' }}))""",
    "base-uri": f"""() => document.head.append(
        Object.assign(document.createElement('base'), {{ href: '{FOREIGN}/' }}))""",
}


def soup_of(path: str) -> BeautifulSoup:
    return BeautifulSoup((HTML / path).read_text(encoding="utf-8"), "html.parser")


def directives(soup: BeautifulSoup) -> dict[str, list[str]]:
    """The page's one policy: directive → sources."""
    (meta,) = soup.select("meta[http-equiv='Content-Security-Policy']")
    parts = (part.split() for part in str(meta["content"]).split(";"))
    return {name: sources for name, *sources in parts}


def inject(page: Any, directive: str) -> None:
    """Do what this directive must stop, and wait until the browser says that the policy did."""
    with page.expect_console_message(lambda message: message.text.startswith("policy: ")):
        page.evaluate(INJECTED[directive])


def test_every_kind_of_page_is_there() -> None:
    for path in ("404.html", "index.html", "search.html", CHAPTER):
        assert path in PAGES
    assert sum(path.startswith("book/api") for path in PAGES) > 5


@pytest.mark.parametrize("path", PAGES)
def test_policy_names_nothing_foreign(path: str) -> None:
    found = directives(soup_of(path))
    assert found["default-src"] == ["'none'"]
    assert {"script-src", "base-uri", "form-action"} <= found.keys()  # no fallback allows these
    foreign = {
        source
        for sources in found.values()
        for source in sources
        if source not in OWN and not source.startswith("'sha256-")
    }
    assert foreign == set()
    unsafe = {name for name, sources in found.items() if "'unsafe-inline'" in sources}
    assert unsafe == {"style-src", "style-src-attr"}
    assert {name for name, sources in found.items() if "blob:" in sources} == {"script-src"}


@pytest.mark.parametrize("path", PAGES)
def test_policy_comes_first_and_names_what_stands_in_the_page(path: str) -> None:
    soup = soup_of(path)
    found = directives(soup)
    assert soup.head is not None
    first = [tag for tag in soup.head.children if isinstance(tag, Tag)][:2]
    assert first[0].get("charset") == "utf-8"
    assert first[1].get("http-equiv") == "Content-Security-Policy"
    for tag in soup.select("script:not([src]), style"):
        allowed = found["script-src" if tag.name == "script" else "style-src-elem"]
        assert digest(tag.get_text()) in allowed, str(tag)[:80]
    handlers = [name for tag in soup.find_all(True) for name in tag.attrs if name.startswith("on")]
    assert handlers == []


def test_a_script_in_a_page_is_named_by_its_hash() -> None:
    assert digest("alert(1)") in content_policy(script="alert(1)")
    assert "sha256" not in content_policy()


@pytest.mark.parametrize("directive", INJECTED)
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_what_is_foreign_is_blocked(
    scheme: str, directive: str, open_page: Callable[..., Any]
) -> None:
    page, watch = open_page("book/usage.html", from_disk=scheme == "file")
    watch.assert_clean()
    inject(page, directive)
    blocked = [message for message in watch.messages if message.startswith("error: policy: ")]
    assert len(blocked) == 1, watch.messages
    assert blocked[0].startswith(f"error: policy: {directive.split()[0]} ")
    assert page.evaluate("window.broken") is None
    assert page.evaluate("document.baseURI") == page.url


def test_every_style_sheet_of_the_page_of_wrong_addresses_is_used(
    open_page: Callable[..., Any],
) -> None:
    page, watch = open_page("404.html")
    assert page.evaluate("getComputedStyle(document.body).display") == "grid"
    watch.assert_clean()
