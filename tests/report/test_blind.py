"""The blind listening test, taken in a browser by keyboard."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.report.test_browser import CONTRAST, UNNAMED, Opener, open_page  # noqa: F401 (a fixture)


def start(open_page: Opener, page: Path, query: str) -> Page:  # noqa: F811
    tab = open_page(page, "blind.html")
    tab.goto((page / "blind.html").as_uri() + query)
    tab.get_by_role("button", name="Start").focus()
    tab.keyboard.press("Enter")
    return tab


def listen(tab: Page) -> None:
    """Hear every version for long enough."""
    tab.keyboard.press("Space")
    keys = tab.locator("#versions kbd").all_inner_texts()
    for i, key in enumerate(keys):
        tab.keyboard.press(key)
        expect(tab.locator(f"#versions label:nth-child({i + 1}).current.heard")).to_be_visible()


def saved(tab: Page) -> list[dict[str, str]]:
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save all answers").click()
    with open(download.value.path(), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


AB = "?mode=ab&codec=opus_12k&codec=g711_alaw&trials=3&seed=11&listener=%22E.%22%2C+1"


def test_preferences_by_keyboard(page: Path, open_page: Opener) -> None:  # noqa: F811
    tab = start(open_page, page, AB)
    expect(tab.locator("#trial-title")).to_be_focused()
    names = "opus|g711|" + "|".join(path.name for path in (page / "clips").iterdir())
    for number in range(3):
        expect(tab.locator("#progress-text")).to_have_text(f"Trial {number + 1} of 3")
        shown = tab.locator("#trial").inner_text()
        assert not any(name in shown for name in names.split("|"))
        if number == 0:
            tab.keyboard.press("Enter")
            expect(tab.get_by_role("alert").filter(has_text="Not heard yet: Original, A, B.")).to_be_visible()
        listen(tab)
        if number == 0:
            tab.keyboard.press("Enter")
            expect(tab.get_by_role("alert").filter(has_text="Choose an answer.")).to_be_visible()
        tab.keyboard.press("1")
        tab.keyboard.press("Enter")
    expect(tab.locator("#result-title")).to_be_focused()
    rows = saved(tab)
    assert [row["trial"] for row in rows] == ["1", "2", "3"]
    assert {row["listener"] for row in rows} == {'"E.", 1'} and {row["seed"] for row in rows} == {"11"}
    assert len({row["clip"] for row in rows}) == 3  # none comes twice before all came once
    wins = {"opus_12k": 0, "g711_alaw": 0}
    for row in rows:
        assert {row["a"], row["b"]} == set(wins) and row["answer"] == "A" and row["chosen"] == row["a"]
        wins[row["chosen"]] += 1
    pair = tab.locator("#result table").nth(1).locator("tbody tr")
    first, second = pair.locator("th").inner_text().split(" – ")
    cells = pair.locator("td").all_inner_texts()
    assert cells[:3] == [str(wins[first]), "0", str(wins[second])]
    # The exact two-sided sign test, by hand.
    most = max(wins.values())
    expected = min(1.0, 2 * sum(math.comb(3, k) for k in range(most, 4)) / 2**3)
    assert float(cells[4]) == pytest.approx(expected, abs=5e-4)
    assert tab.evaluate(CONTRAST) == [] and tab.evaluate(UNNAMED) == []


def test_the_seed_fixes_the_order(page: Path, open_page: Opener) -> None:  # noqa: F811
    def order(seed: int) -> list[tuple[str, str]]:
        tab = start(open_page, page, AB.replace("seed=11", f"seed={seed}").replace("trials=3", "trials=1"))
        listen(tab)
        tab.keyboard.press("2")
        tab.keyboard.press("Enter")
        return [(row["clip"], row["a"]) for row in saved(tab)]

    assert order(3) == order(3)
    assert len({str(order(seed)) for seed in (3, 4, 5)}) > 1


def test_versions_play_together_and_one_is_heard(page: Path, open_page: Opener) -> None:  # noqa: F811
    # The elements are not in the page: they are looked at as they are made.
    tab = open_page(page, "blind.html")
    tab.add_init_script("""
        window.made = [];
        const Before = window.Audio;
        window.Audio = function (source) { const a = new Before(source); window.made.push(a); return a; };
    """)
    query = (
        "?mode=rating&codec=opus_12k&codec=mp3_32k&trials=1&category=speech&seed=1"  # which begins with the long clip
    )
    tab.goto((page / "blind.html").as_uri() + query)
    tab.get_by_role("button", name="Start").click()
    tab.keyboard.press("Space")
    tab.wait_for_function("made.length === 4 && made.every((a) => a.currentTime > 0.3)")
    for key, index in (("c", 3), ("o", 0), ("a", 1)):
        tab.keyboard.press(key)
        assert tab.evaluate("made.map((a) => a.muted)") == [i != index for i in range(4)]
        assert tab.evaluate("made.every((a) => !a.paused)")
        tab.wait_for_function(
            "Math.max(...made.map((a) => a.currentTime)) - Math.min(...made.map((a) => a.currentTime)) < 0.1"
        )
    # The louder ones are turned down to the quietest.
    volumes = tab.evaluate("made.map((a) => a.volume)")
    assert max(volumes) == 1 and min(volumes) < 1
    assert volumes[0] in volumes[1:]  # the hidden original is as loud as the open one


def test_abx_counts_what_is_right(page: Path, open_page: Opener) -> None:  # noqa: F811
    tab = start(open_page, page, "?mode=abx&codec=g711_alaw&trials=3&seed=5")
    for _ in range(3):
        listen(tab)
        tab.keyboard.press("1")
        tab.keyboard.press("Enter")
    rows = saved(tab)
    right = sum(row["x"] == "A" for row in rows)
    assert [row["correct"] for row in rows] == [str(int(row["x"] == "A")) for row in rows]
    assert all({row["a"], row["b"]} == {"original", "g711_alaw"} for row in rows)
    cells = tab.locator("#result tbody tr td").all_inner_texts()
    assert cells[:2] == ["3", str(right)]
    chance = sum(math.comb(3, k) for k in range(right, 4)) / 2**3
    assert float(cells[3]) == pytest.approx(chance, abs=5e-4)


def test_ratings_with_a_hidden_original(page: Path, open_page: Opener) -> None:  # noqa: F811
    tab = start(open_page, page, "?mode=rating&codec=opus_12k&codec=g711_alaw&trials=1&seed=5")
    listen(tab)
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("alert").filter(has_text="Not rated yet: A, B, C.")).to_be_visible()
    for i, letter in enumerate("ABC"):
        tab.get_by_label(f"Rating of {letter}").focus()
        tab.keyboard.press("Home")
        for _ in range(10 * i):
            tab.keyboard.press("ArrowRight")
        if i == 0:
            tab.keyboard.press("ArrowRight")
            tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("Enter")
    rows = saved(tab)
    assert {row["version"]: row["rating"] for row in rows} == {"A": "0", "B": "10", "C": "20"}
    assert {row["codec"] for row in rows} == {"original", "opus_12k", "g711_alaw"}
    means = {
        row.locator("th").inner_text(): row.locator("td").nth(1).inner_text()
        for row in tab.locator("#result tbody tr").all()
    }
    for row in rows:
        assert float(means["original (hidden)" if row["codec"] == "original" else row["codec"]]) == float(row["rating"])
    expect(tab.locator("#result .notice")).to_contain_text("below 90 in 1 of 1")


def test_what_cannot_be_asked_is_said(page: Path, open_page: Opener) -> None:  # noqa: F811
    tab = start(open_page, page, "?mode=ab&codec=opus_12k")
    expect(tab.get_by_role("alert").filter(has_text="Choose two codecs")).to_be_visible()
    expect(tab.locator("#trial")).to_be_hidden()
    tab.get_by_role("button", name="all", exact=True).click()
    expect(tab.locator("#level-note")).to_contain_text("6 pairs, 4 clips")
    tab.get_by_role("button", name="none", exact=True).click()
    expect(tab.locator("#level-note")).to_be_hidden()


def test_a_trial_fits_a_phone(page: Path, open_page: Opener) -> None:  # noqa: F811
    tab = open_page(page, "blind.html", (375, 812))
    tab.goto((page / "blind.html").as_uri() + AB)
    tab.get_by_role("button", name="Start").click()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 375
    tab.get_by_role("button", name="Stop and show the result").click()
    expect(tab.locator("#result")).to_contain_text("No answer was given.")
