"""The pages of `codeczoo probe` and `codeczoo drift` in a real browser, opened from disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from codeczoo import register_codec
from codeczoo.cli import main
from codeczoo.report.code_pages import write_code_page
from tests.support.command_line import write_sound
from tests.support.known_codecs import KNOWN, SINFUL, SINS, UNEVEN, Known, Sinful, Uneven
from tests.support.registering import registered_for_a_while

SIZES = {"phone": (390, 844), "desktop": (1360, 900)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Results of both commands, with their pages."""
    base = tmp_path_factory.mktemp("codes")
    for i in range(4):
        write_sound(base / "clips" / f"{i}.wav", 1.0 + i / 4, seed=i)
    (base / "clips" / "<b>text.wav").write_text("this is no audio\n" * 100)
    common = ["--dataset", str(base / "clips"), "--device", "cpu", "--quiet"]
    with registered_for_a_while():
        for toml, kind in ((KNOWN, Known), (SINFUL, Sinful), (UNEVEN, Uneven)):
            register_codec(toml, kind)
        out = {name: base / name for name in ("probe", "drift")}
        arguments = ["--repeats", "2", "--shuffles", "2", "--workers", "0", "--out", str(out["probe"])]
        assert main(["probe", "known", "uneven", *common, *arguments]) == 3
        (base / "clips" / "<b>text.wav").unlink()
        arguments = ["--batches", "1", "4", "--seconds", "0.5", "--threads", "1", "--out", str(out["drift"])]
        assert main(["drift", "known", "sinful", *common, *arguments]) == 0
    return out


@pytest.fixture
def browse(browser: Browser) -> Iterator[object]:
    """Opens a page; afterwards nothing was on the console, and nothing was asked of a network."""
    context = browser.new_context(offline=True)
    complaints: list[str] = []

    def opened(folder: Path, size: str, scheme: str = "light") -> Page:
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith("file:") or complaints.append(request.url))
        width, height = SIZES[size]
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)
        page.goto((folder / "index.html").as_uri())
        return page

    yield opened
    context.close()
    assert complaints == []


@pytest.mark.parametrize(("size", "scheme"), [("phone", "dark"), ("desktop", "light")])
@pytest.mark.parametrize("name", ["probe", "drift"])
def test_every_plot_is_drawn_and_nothing_is_wider_than_the_window(
    name: str, size: str, scheme: str, folders: dict[str, Path], browse
) -> None:
    page = browse(folders[name], size, scheme)
    figures = page.locator("figure.plot")
    count = figures.count()
    assert count >= 6
    for i in range(count):
        figures.nth(i).scroll_into_view_if_needed()
        expect(figures.nth(i).locator(".main-svg").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
    assert page.locator("figure.plot .point, figure.plot .hm").count() > count


def test_the_page_of_a_probe_shows_what_is_known(folders: dict[str, Path], browse) -> None:
    page = browse(folders["probe"], "desktop")
    expect(page.locator("#codecs tbody tr")).to_have_count(2)
    expect(page.locator("#codecs tbody tr").nth(1)).to_contain_text("no decoder")
    expect(page.locator("table[aria-labelledby=failures] tbody tr").first).to_contain_text("<b>text")
    assert page.locator("table b:has-text('text.wav')").count() == 0  # a name is no HTML
    turns = page.locator("#books tbody:not([hidden]) tr").nth(2)
    expect(turns).to_contain_text("252")  # of 256 entries that a count of four leaves
    page.locator("form[data-table=books] select").select_option("uneven")
    expect(page.locator("#books tbody:not([hidden]) tr")).to_have_count(2)
    plot = page.locator("figure.plot[data-metric=change-gain]")
    plot.scroll_into_view_if_needed()
    expect(plot.locator(".point")).to_have_count(3 + 2)
    page.locator("#plot-controls").get_by_label("uneven").uncheck()
    expect(plot.locator(".point")).to_have_count(3)


def test_the_page_of_a_drift_report_marks_what_changed(folders: dict[str, Path], browse) -> None:
    page = browse(folders["drift"], "desktop")
    row = page.locator("#drift tbody tr", has_text="batch size: 4")
    share = (1 + 3 / 4) / len(SINS)
    expect(row.locator("td").nth(0).locator(".mean")).to_have_text("0")
    expect(row.locator("td").nth(1).locator("b")).to_have_text(f"{100 * share:.1f} %")
    sinful = page.locator("#drift thead th").nth(2)
    sinful.get_by_role("button").click()
    expect(sinful).to_have_attribute("aria-sort", "descending")
    expect(page.locator("#drift tbody tr th").first).not_to_contain_text("once more")
    for kind, joined in (("batch-size", True), ("precision", False)):  # a line joins only what has an order
        figure = page.locator(f"figure.plot[data-metric={kind}]")
        figure.scroll_into_view_if_needed()
        expect(figure.locator(".point").first).to_be_visible()
        assert (figure.locator(".js-line").count() > 0) is joined
    page.locator("form[data-table=books] select").select_option("sinful")
    cells = page.locator("#books tbody:not([hidden]) tr", has_text="bfloat16").locator("td")
    assert cells.all_inner_texts()[SINS.index("autocast")] == "100.0 %"


def test_a_page_is_made_again_elsewhere_with_the_same_bytes(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, folder in folders.items():
        out = tmp_path / name
        for _ in range(2):
            assert main(["report", str(folder), "-o", str(out)]) == 0
            assert (out / "index.html").read_bytes() == (folder / "index.html").read_bytes()
    before = (folders["probe"] / "codebooks.csv").read_bytes()
    assert main(["report", str(folders["probe"]), "-o", str(folders["probe"])]) == 0  # beside the results again
    assert (folders["probe"] / "codebooks.csv").read_bytes() == before
    assert main(["report", *map(str, folders.values()), "-o", str(tmp_path / "both")]) == 1
    assert "one folder at a time" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(ValueError, match="no page of codes"):
        write_code_page(folders["probe"], tmp_path / "mine")


def test_results_of_another_version_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    result = json.loads((folders["probe"] / "probe.json").read_text())
    (tmp_path / "probe.json").write_text(json.dumps({**result, "format": "codeczoo-probe-99"}))
    with pytest.raises(ValueError, match="codeczoo-probe-99"):
        write_code_page(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"probe\.json or drift\.json"):
        write_code_page(tmp_path / "nothing")
