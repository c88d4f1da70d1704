"""The docs site: it builds strictly, has what it should have, asks no network, and its search finds things."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from codeczoo.base.catalogue import variants
from codeczoo.cli import COMMANDS
from scripts.docs_site import api

ROOT = Path(__file__).parent.parent.parent
OWN = [variant for variant in variants().values() if variant.defined_in.startswith("configs/")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it: a broken link, a missing anchor, a reference to nothing or a page that
    is not in the nav is an error."""
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_every_family_command_and_page_is_there(site: Path) -> None:
    made = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    assert {f"families/{variant.family}" for variant in OWN} < made
    assert {f"commands/{name}" for name in COMMANDS} < made
    assert {page.relative_to(ROOT / "docs").with_suffix("").as_posix() for page in (ROOT / "docs").rglob("*.md")} < made
    text = (site / "families" / "mimi.html").read_text("utf-8")
    for said in (
        "arxiv.org/abs/2410.00037",
        "CC-BY-4.0",
        "bac7e85083dc",
        "moshi 0.2.13",
        "On a GPU",
        "codeczoo.codecs.mimi.Mimi",
    ):
        assert said in text
    assert "--allow-other-weights" in (site / "commands" / "decode.html").read_text("utf-8")


def test_nothing_is_loaded_from_the_web(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        loaded = re.findall(r"<(?:script|img|link|iframe|audio)[^>]*(?:src|href)=\"?(https?:[^\" >]*)", text)
        assert [url for url in loaded if "canonical" not in url] == [], page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()[\s\"'(]*https?:", sheet.read_text("utf-8")), sheet.name


@pytest.mark.parametrize("module", api.MODULES)
def test_every_public_object_is_described(site: Path, module: str) -> None:
    pages = "".join(path.read_text("utf-8") for path in (site / "api").glob("*.html"))
    paths = api.public_objects(ROOT, module)
    assert paths
    assert [path for path in paths if f'id="{path}"' not in pages] == []


@pytest.mark.parametrize("module", api.MODULES)
def test_every_public_object_has_a_docstring(module: str) -> None:
    """Classes, functions, and the methods and properties of public classes with those that they inherit here."""
    assert [path for path in api.public_objects(ROOT, module) for path in bare(path)] == []


def bare(path: str) -> list[str]:
    """The names in an object that have no docstring, itself among them."""
    found = definition(path)
    if not isinstance(found, ast.ClassDef | ast.FunctionDef):
        return []  # a constant or a type
    out = [] if ast.get_docstring(found) else [path]
    if isinstance(found, ast.ClassDef):
        members = [node for node in found.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
        setters = {
            d.value.id for m in members for d in m.decorator_list if isinstance(d, ast.Attribute) and d.attr == "setter"
        }  # type: ignore[attr-defined]
        documented = {m.name for m in members if ast.get_docstring(m)}
        out += [f"{path}.{m.name}" for m in members if m.name not in documented and m.name not in setters]
        module = path.rpartition(".")[0]
        for base in found.bases:
            if isinstance(base, ast.Name):
                home = api.home_of(ROOT, module, base.id)
                if definition(home) is not None:
                    inherited = [name.rpartition(".")[2] for name in bare(home) if name.startswith(f"{home}.")]
                    out += [f"{home}.{name}" for name in inherited if name not in documented]
    return out


def definition(path: str) -> ast.AST | None:
    module, _, name = path.rpartition(".")
    place = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    if not place.is_file():
        place = ROOT.joinpath(*module.split("."), "__init__.py")
    if not place.is_file():
        return None
    tree = ast.parse(place.read_text("utf-8"))
    kinds = (ast.ClassDef, ast.FunctionDef)
    return next((node for node in tree.body if isinstance(node, kinds) and node.name == name), None)


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1360, "dark")])
def test_pages_fit_their_window_and_search_finds(browser: Browser, address: str, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: asked.append(str(error)))
    for name in ("index", "families/dac", "commands/benchmark", "guides/moving", "api/codeczoo"):
        page.goto(f"{address}{name}.html")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    colours = "default" if scheme == "light" else "slate"
    expect(page.locator("body")).to_have_attribute("data-md-color-scheme", colours)
    if width < 1000:
        page.locator("label[for=__search].md-header__button").click()
    else:
        page.locator(".md-search__input").click()
    page.keyboard.type("receptive field")
    expect(page.locator(".md-search-result__item").first).to_be_visible()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    context.close()


def test_the_index_of_the_search_has_the_pages(site: Path) -> None:
    places = {
        entry["location"] for entry in json.loads((site / "search" / "search_index.json").read_text("utf-8"))["docs"]
    }
    assert {
        "families/mimi.html",
        "faq.html",
        "commands/encode.html",
        "api/codeczoo.html#codeczoo.registry.load_codec",
    } <= places
