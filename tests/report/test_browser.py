"""The page as people use it: opened from disk in a real browser, without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from codeczoo.report.page import PAGES
from tests.report.conftest import CLIPS, CODECS, HOSTILE, LONG, METRICS, SECONDS

WIDTHS = {"desktop": (1280, 900), "phone": (375, 812)}

HOSTILE_PAGES = [name for name, _ in PAGES if name != "published.html"]  # none of its codecs is in that table

Opener = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Opener]:
    """Opens a file of a report. Afterwards: nothing on the console, no error, nothing asked of a network."""
    context = browser.new_context(offline=True)
    complaints: list[str] = []

    def opened(folder: Path, name: str = "index.html", size: tuple[int, int] = WIDTHS["desktop"], **media: str) -> Page:
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{name}: {message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"{name}: {error}"))
        page.on("requestfailed", lambda request: complaints.append(f"{name}: failed: {request.url}"))
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("file:", "data:", "blob:"))
                or complaints.append(f"{name}: asked for {request.url}")
            ),
        )
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.emulate_media(**media)
        page.goto((folder / name).as_uri())
        return page

    yield opened
    context.close()
    assert complaints == []


def column(page: Page, index: int, table: str = "#leaderboard") -> list[str]:
    """The first line of that column's cells, of the rows that are shown."""
    cells = page.locator(f"{table} tbody:not([hidden]) tr:not([hidden]) > :nth-child({index + 1})")
    return [text.strip().split("\n")[0] for text in cells.all_inner_texts()]


def header(page: Page, name: str) -> tuple[int, object]:
    """The position of a column of the leaderboard, and its header."""
    names = page.locator("#leaderboard thead .label").all_inner_texts()
    index = [text.strip("↕▲▼ ") for text in names].index(name)
    return index, page.locator("#leaderboard thead th").nth(index)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_sorts_both_ways_best_first(page: Path, open_page: Opener, metric: str) -> None:
    tab = open_page(page)
    index, head = header(tab, metric)
    expect(head).to_have_attribute("aria-sort", "none")
    orders = []
    for _ in range(2):
        head.get_by_role("button").click()
        orders.append((head.get_attribute("aria-sort"), [float(v.replace("−", "-")) for v in column(tab, index)]))
    first, second = orders
    up = metric == "mel"
    assert first == ("ascending" if up else "descending", sorted(first[1], reverse=not up))
    assert second == ("descending" if up else "ascending", sorted(first[1], reverse=up))
    assert len(set(first[1])) > 1
    expect(tab.locator("#leaderboard th[aria-sort]:not([aria-sort=none])")).to_have_count(1)


def test_names_sort_and_so_does_the_keyboard(page: Path, open_page: Opener) -> None:
    tab = open_page(page)
    _, head = header(tab, "codec")
    head.get_by_role("button").focus()
    tab.keyboard.press("Enter")
    assert column(tab, 0) == sorted(CODECS)
    tab.keyboard.press("Space")
    assert column(tab, 0) == sorted(CODECS, reverse=True)
    expect(head).to_have_attribute("aria-sort", "descending")


def test_what_has_no_value_sorts_last_both_ways(hostile_page: Path, open_page: Opener) -> None:
    tab = open_page(hostile_page)
    tab.locator("select[name=body]").first.select_option("broken")
    index, _ = header(tab, "mel")
    assert column(tab, index) == ["–", "–"]
    tab.locator("select[name=body]").first.select_option("audio")
    index, _ = header(tab, "stoi")
    assert column(tab, index) == ["undefined", "undefined"]
    tab.goto((hostile_page / "failures.html").as_uri())
    tab.locator("#failures thead button").first.click()
    assert column(tab, 0, "#failures") == ["nan", "text"]


def test_filters_by_text_bitrate_and_category(page: Path, open_page: Opener) -> None:
    tab = open_page(page)
    output = tab.locator("form[data-table=leaderboard] output")
    expect(output).to_have_text("4 of 4 shown")
    tab.get_by_label("Find").fill("OPUS")
    assert column(tab, 0) == ["opus_12k", "opus_24k"]
    expect(output).to_have_text("2 of 4 shown")
    tab.get_by_label("Find").fill("")
    tab.get_by_label("kbit/s from").fill("20")
    tab.get_by_label("to", exact=True).fill("50")
    assert column(tab, 0) == ["opus_24k", "mp3_32k"]
    tab.get_by_role("button", name="Reset", exact=True).click()
    expect(output).to_have_text("4 of 4 shown")

    index, _ = header(tab, "mel")
    everything = column(tab, index)
    tab.locator("select[name=body]").first.select_option("speech")
    speech = column(tab, index)
    assert len(speech) == 4 and speech != everything
    clips, _ = header(tab, "clips")
    assert column(tab, clips) == ["2 of 2"] * 4

    form = tab.locator("form[data-table=leaderboard]")
    form.get_by_text("Columns shown").click()
    form.get_by_label("mel", exact=True).uncheck()
    expect(tab.locator("#leaderboard thead th").nth(index)).to_be_hidden()
    expect(tab.locator("#leaderboard tbody:not([hidden]) tr").first.locator("td").nth(index - 1)).to_be_hidden()


def test_counts_and_intervals_are_shown(page: Path, open_page: Opener) -> None:
    tab = open_page(page)
    row = tab.locator("#leaderboard tbody:not([hidden]) tr").first.locator("> *")
    cell = row.nth(header(tab, "si_sdr")[0])
    lines = [cell.locator(kind).inner_text().replace("−", "-") for kind in (".mean", ".ci", ".few")]
    mean, (low, high) = float(lines[0]), (float(v) for v in lines[1].strip("[]").split(","))
    assert low < mean < high
    assert lines[2] == "3 of 4"  # silence has none
    # Of one value there is no interval.
    alone = row.nth(header(tab, "stoi")[0])
    expect(alone.locator(".ci")).to_have_count(0)
    expect(alone.locator(".few")).to_have_text("1 of 4")


def test_plots_have_every_codec_on_a_logarithmic_axis(page: Path, open_page: Opener) -> None:
    tab = open_page(page)
    assert tab.locator("figure.plot").count() == len(METRICS)
    for metric in METRICS:
        plot = tab.locator(f"figure.plot[data-metric={metric}]")
        plot.scroll_into_view_if_needed()
        expect(plot.locator(".point")).to_have_count(len(CODECS))
        assert plot.locator(".canvas").evaluate("e => e._fullLayout.xaxis.type") == "log"
    plot = tab.locator("figure.plot[data-metric=mel]")
    box = plot.locator(".point").first.bounding_box()
    assert box is not None
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    hover = plot.locator(".hoverlayer")
    for text in ("95% CI", "n = 4", "kbit/s", "mel"):
        expect(hover).to_contain_text(text)
    # Nothing offers to send the numbers away.
    buttons = plot.locator(".modebar-btn").evaluate_all("all => all.map((b) => b.getAttribute('aria-label'))")
    assert buttons == ["Download plot as a PNG", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"]
    tab.get_by_label("mp3").uncheck()
    expect(plot.locator(".point")).to_have_count(len(CODECS) - 1)
    tab.locator("#plot-controls select[name=category]").select_option("music")
    expect(plot.locator(".point")).to_have_count(len(CODECS) - 1)
    tab.locator("#plot-controls select[name=category]").select_option("audio")
    silent = tab.locator("figure.plot[data-metric=stoi]")
    expect(silent.locator(".absent")).to_contain_text("opus_12k (undefined on every clip: the original is silent)")
    expect(silent.locator(".point")).to_have_count(0)


def wait_until_drawn(tab: Page, metric: str, narrow: bool) -> None:
    """A figure is drawn for paper, or for the screen."""
    tab.wait_for_function(
        """([metric, narrow]) => {
          const drawing = document.querySelector(`figure.plot[data-metric=${metric}] .main-svg`);
          const width = drawing?.getBoundingClientRect().width;
          return narrow ? width > 0 && width < 400 : width > 400;
        }""",
        arg=[metric, narrow],
    )


def test_points_have_names_and_speed_is_an_axis(page: Path, open_page: Opener) -> None:
    tab = open_page(page)
    plot = tab.locator("figure.plot[data-metric=mel]")
    plot.scroll_into_view_if_needed()
    expect(plot.locator(".textpoint").first).to_be_visible()
    assert sorted(plot.locator(".textpoint").all_text_contents()) == ["12k", "g711_alaw", "mp3_32k", "opus_24k"]
    tab.locator("select[name=axis]").select_option("encode")
    expect(plot.locator(".xtitle")).to_have_text("encodes × real time")
    expect(plot.locator(".point")).to_have_count(len(CODECS))
    expect(tab.locator("#plot-controls select[name=category]")).to_be_disabled()


def test_a_print_has_every_plot_in_light_colours(page: Path, open_page: Opener) -> None:
    tab = open_page(page, size=(1280, 300), color_scheme="dark")
    tab.emulate_media(media="print", color_scheme="dark")
    for metric in METRICS:
        plot = tab.locator(f"figure.plot[data-metric={metric}]")
        expect(plot.locator(".point")).to_have_count(len(CODECS))
        # Two figures stand beside each other on a sheet, whatever the window's width.
        wait_until_drawn(tab, metric, narrow=True)
    assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(29, 32, 35)"
    tab.emulate_media(media="screen", color_scheme="dark")
    wait_until_drawn(tab, METRICS[0], narrow=False)


def test_plots_out_of_sight_are_drawn_when_there_is_time(page: Path, open_page: Opener) -> None:
    tab = open_page(page, size=(1280, 300))
    for metric in METRICS:
        expect(tab.locator(f"figure.plot[data-metric={metric}] .point")).to_have_count(len(CODECS))
    assert tab.evaluate("window.scrollY") == 0


def test_a_phone_shows_metrics_and_that_there_are_more(pages: list[Path], open_page: Opener) -> None:
    tab = open_page(pages[0], size=(390, 844))
    row = tab.locator("#leaderboard tbody:not([hidden]) tr").first
    boxes = [row.locator(f"td[data-column={metric}]").bounding_box() for metric in METRICS[:2]]
    assert all(box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)
    expect(row.locator("th .narrow")).to_contain_text("kbit/s")
    expect(row.locator("td[data-column=encodes]")).to_be_hidden()
    edge = tab.locator(".edge", has=tab.locator("#leaderboard"))
    if row.locator("td[data-column=stoi]").bounding_box()["x"] > 300:  # type: ignore[index]
        expect(edge).to_have_class("edge more-right")
        edge.locator(".scroll").evaluate("e => e.scrollLeft = 9999")
        expect(edge).to_have_class("edge more-left")
    form = tab.locator("form[data-table=leaderboard]")
    form.get_by_text("Columns shown").click()
    form.get_by_label("encodes").check()
    expect(row.locator("td[data-column=encodes]")).to_be_visible()


def test_the_front_is_marked_and_not_the_highest_bitrate(page: Path, open_page: Opener) -> None:
    tab = open_page(page)
    marked = tab.locator("#leaderboard tbody:not([hidden]) tr", has=tab.locator("td[data-column=mel] .front"))
    names = marked.locator(".codec").all_inner_texts()
    assert "opus_12k" in names and "g711_alaw" not in names  # the cheapest; and the dearest, which is worse
    index, head = header(tab, "front")
    head.get_by_role("button").click()
    counts = [int(text.split()[0]) for text in column(tab, index)]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1]
    tab.get_by_role("button", name="Reset", exact=True).first.click()
    assert column(tab, 0)[0] == "opus_12k"  # by bitrate again


def test_bitrates_for_the_same_score_and_intervals_by_speakers(neural_page: Path, open_page: Opener) -> None:
    tab = open_page(neural_page)
    expect(tab.locator("#rates-table tbody:not([hidden]) .codec")).to_have_text("encodec_24k_1_5kbps")
    cell = tab.locator("#leaderboard td[data-column=mel]").first
    expect(cell.locator(".by-clip")).to_be_visible()
    tab.locator("form[data-table=leaderboard] select[name=interval]").select_option("speaker")
    expect(cell.locator(".by-clip")).to_be_hidden()
    expect(cell.locator(".by-speaker")).to_be_visible()
    assert column(tab, header(tab, "codebook use")[0])[1:] == ["–", "–"]
    assert column(tab, header(tab, "codebook use")[0])[0].endswith("%")


def test_pairs_of_one_codec_at_a_time(page: Path, open_page: Opener) -> None:
    tab = open_page(page, "pairs.html")
    choice = tab.locator("form[data-table=pairs] select[name=body]")
    assert choice.input_value() == "opus_24k"
    mine = dict(zip(column(tab, 0, "#pairs"), column(tab, 2, "#pairs"), strict=True))
    choice.select_option("mp3_32k")
    theirs = dict(zip(column(tab, 0, "#pairs"), column(tab, 2, "#pairs"), strict=True))
    assert set(mine) == set(CODECS) - {"opus_24k"} and set(theirs) == set(CODECS) - {"mp3_32k"}
    swapped = {"+": "−", "−": "+"}
    assert theirs["opus_24k"] == swapped[mine["mp3_32k"][0]] + mine["mp3_32k"][1:]


def position(clip: object, index: int) -> tuple[float, bool]:
    """Where a source of a clip stands, in seconds, and whether it plays."""
    now, paused = clip.locator("audio").nth(index).evaluate("a => [a.currentTime, a.paused]")
    return now, not paused


def test_switching_the_source_keeps_the_position_and_plays_on(page: Path, open_page: Opener) -> None:
    tab = open_page(page, "listening.html")
    clip = tab.locator("article.clip", has=tab.get_by_role("heading", name=LONG))
    play = clip.get_by_role("button")
    expect(play).to_have_attribute("aria-label", f"Play {LONG}")
    play.click()
    expect(play).to_have_attribute("aria-label", f"Pause {LONG}")
    tab.wait_for_function("a => a.currentTime > 0.6", arg=clip.locator("audio").first.element_handle())

    clip.get_by_label("opus_24k").check()
    index = 1 + sorted(CODECS).index("opus_24k")
    labels = [text.split()[0] for text in clip.locator(".source label .name").all_inner_texts()]
    assert labels == ["original", "opus_12k", "opus_24k", "mp3_32k", "g711_alaw"]
    index = labels.index("opus_24k")
    left, still = position(clip, 0)
    assert not still
    at, on = position(clip, index)
    assert on and left <= at < left + 2
    tab.wait_for_function(
        "([a, from]) => a.currentTime > from + 0.2", arg=[clip.locator("audio").nth(index).element_handle(), left]
    )
    assert [position(clip, i)[1] for i in range(5)] == [i == index for i in range(5)]

    # Paused, a change of source keeps the position and stays silent.
    play.click()
    at, on = position(clip, index)
    assert not on
    clip.get_by_label("g711_alaw").check()
    assert position(clip, 4) == (pytest.approx(at, abs=0.02), False)
    shown = float(clip.locator(".seek").input_value())
    assert shown == pytest.approx(at, abs=0.05)


def test_players_by_keyboard_and_one_clip_at_a_time(page: Path, open_page: Opener) -> None:
    tab = open_page(page, "listening.html")
    first = tab.locator("article.clip", has=tab.get_by_role("heading", name=LONG))
    other = tab.locator("article.clip", has=tab.get_by_role("heading", name="audio_silence_mono_24k"))
    first.get_by_role("radio").first.focus()
    tab.keyboard.press("Space")
    expect(first).to_have_class("clip playing")
    tab.keyboard.press("ArrowDown")
    expect(first.get_by_role("radio").nth(1)).to_be_checked()
    assert [position(first, i)[1] for i in range(2)] == [False, True]
    tab.keyboard.press("3")
    expect(first.get_by_role("radio").nth(3)).to_be_checked()
    assert position(first, 3)[1]
    other.get_by_role("button").focus()
    tab.keyboard.press("Enter")
    expect(other).to_have_class("clip playing")
    expect(first).to_have_class("clip")
    assert not any(position(first, i)[1] for i in range(5))
    # A clip that ends stands at its beginning again.
    expect(other).to_have_class("clip", timeout=20000)
    assert position(other, 0) == (0, False)

    slider = first.get_by_role("slider")
    slider.focus()
    tab.keyboard.press("Home")
    for _ in range(10):
        tab.keyboard.press("ArrowRight")
    assert position(first, 3)[0] == pytest.approx(0.1, abs=0.011)


def test_keys_work_after_a_click_and_wherever_the_focus_is(page: Path, open_page: Opener) -> None:
    tab = open_page(page, "listening.html")
    clip = tab.locator("article.clip", has=tab.get_by_role("heading", name=LONG))
    clip.get_by_role("button").click()
    before = tab.evaluate("window.scrollY")
    tab.keyboard.press("ArrowDown")  # the focus is on the button
    expect(clip.get_by_role("radio").nth(1)).to_be_checked()
    clip.locator("header").click()  # on nothing that takes a focus
    tab.keyboard.press("ArrowDown")
    expect(clip.get_by_role("radio").nth(2)).to_be_checked()
    tab.keyboard.press("ArrowUp")
    expect(clip.get_by_role("radio").nth(1)).to_be_checked()
    tab.keyboard.press("4")
    expect(clip.get_by_role("radio").nth(4)).to_be_checked()
    tab.keyboard.press("Space")
    expect(clip).to_have_class("clip")
    assert abs(tab.evaluate("window.scrollY") - before) < 300  # the page did not run away
    # In a field keys write.
    tab.get_by_label("Find").press("o")
    assert tab.get_by_label("Find").input_value() == "o"
    expect(clip.get_by_role("radio").nth(4)).to_be_checked()


def test_a_clip_shows_three_numbers_and_how_far_they_are_from_the_best(page: Path, open_page: Opener) -> None:
    tab = open_page(page, "listening.html")
    clip = tab.locator("article.clip", has=tab.get_by_role("heading", name="audio_silence_mono_24k"))
    expect(clip.locator(".numbers dd.nothing").first).to_have_text("the original is silent")
    clip = tab.locator("article.clip", has=tab.get_by_role("heading", name=LONG))
    shown = clip.locator(".numbers div", has=tab.get_by_text("mel", exact=True)).locator("dd")
    texts = [text.replace("−", "-").split() for text in shown.all_inner_texts()]
    values = [float(text[0]) for text in texts]
    best = min(values)
    for value, (_, off) in zip(values, texts, strict=True):
        assert off == "best" if value == best else float(off) == pytest.approx(value - best, abs=0.0011)


def test_a_click_into_a_spectrogram_plays_from_there(page: Path, open_page: Opener) -> None:
    tab = open_page(page, "listening.html")
    clip = tab.locator("article.clip", has=tab.get_by_role("heading", name=LONG))
    picture = clip.locator(".picture").nth(2)
    picture.scroll_into_view_if_needed()
    size = picture.bounding_box()
    assert size is not None
    picture.click(position={"x": size["width"] / 2, "y": 20})
    expect(clip.get_by_role("radio").nth(2)).to_be_checked()
    at, on = position(clip, 2)
    assert on and 0.48 * SECONDS < at < 0.5 * SECONDS + 2


def test_spectrograms_load_and_the_clips_filter(page: Path, open_page: Opener) -> None:
    tab = open_page(page, "listening.html")
    for picture in tab.locator(".picture img").all():
        picture.scroll_into_view_if_needed()
    tab.wait_for_function("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    output = tab.locator("#clip-filter output")
    expect(output).to_have_text(f"{len(CLIPS)} of {len(CLIPS)} shown")
    tab.get_by_label("Category").select_option("speech")
    expect(output).to_have_text(f"2 of {len(CLIPS)} shown")
    tab.get_by_label("Find").fill("word")
    expect(output).to_have_text(f"1 of {len(CLIPS)} shown")
    tab.get_by_label("Go to").select_option("audio_silence_mono_24k")
    expect(output).to_have_text(f"{len(CLIPS)} of {len(CLIPS)} shown")
    assert tab.evaluate("document.activeElement.getAttribute('aria-label')") == "Play audio_silence_mono_24k"
    expect(tab.get_by_role("button", name="Play audio_silence_mono_24k")).to_be_in_viewport()


def test_published_rows_sort_and_filter(neural_page: Path, open_page: Opener) -> None:
    tab = open_page(neural_page, "published.html")
    output = tab.locator("form output")
    expect(output).to_have_text("1 of 34 shown")
    tab.locator("select[name=match-measured]").select_option("")
    expect(output).to_have_text("34 of 34 shown")
    tab.get_by_label("Find").fill("not resampled")
    expect(output).to_have_text("9 of 34 shown")
    tab.get_by_label("Find").fill("dac_44k")
    assert column(tab, 0, "#published") == ["dac_44k"]
    tab.locator("select[name=body]").first.select_option("Music")
    row = tab.locator("#published tbody:not([hidden]) tr:not([hidden])")
    row.get_by_text("not resampled").click()
    expect(row).to_contain_text("feeds the clip at the clip's own rate")


@pytest.mark.parametrize("name", [name for name, _ in PAGES])
@pytest.mark.parametrize("size", WIDTHS.values(), ids=WIDTHS)
def test_no_page_is_wider_than_its_window(
    pages: list[Path], open_page: Opener, name: str, size: tuple[int, int]
) -> None:
    for folder in [folder for folder in pages if (folder / name).exists()]:
        tab = open_page(folder, name, size)
        expect(tab.locator("h1")).to_be_visible()
        for figure in tab.locator("figure.plot").all():
            figure.scroll_into_view_if_needed()
            expect(figure.locator(".main-svg").first).to_be_visible()
        assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]


@pytest.mark.parametrize("name", HOSTILE_PAGES)
def test_what_comes_from_data_is_text(hostile_page: Path, open_page: Opener, name: str) -> None:
    tab = open_page(hostile_page, name)
    assert tab.evaluate("window.harmed") is None
    assert tab.locator("main i, main tbody b b").count() == 0
    if name == "listening.html":
        expect(tab.get_by_role("heading", name=HOSTILE)).to_be_visible()
        play = tab.get_by_role("button", name=f"Play {HOSTILE}")
        play.click()
        tab.wait_for_function("document.querySelector('audio').currentTime > 0.2")
    if name == "index.html":
        tab.locator("select[name=body]").first.select_option("<b>speech</b>")
        clips, _ = header(tab, "clips")
        assert column(tab, clips) == ["1 of 2", "1 of 2"]


CONTRAST = """() => {
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (c) => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const parse = (text) => text.match(/[0-9.]+/g).map(Number);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0.99) return c;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest("svg, .ticks, noscript, script, option")) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(`${e.tagName}.${e.className} ${ratio.toFixed(2)} ${e.textContent.trim().slice(0, 30)}`);
  }
  return bad;
}"""


UNNAMED = """() => [...document.querySelectorAll("input, select, button")]
  .filter((e) => !(e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim())).map((e) => e.outerHTML)"""


@pytest.mark.parametrize("name", [name for name, _ in PAGES])
def test_text_is_legible_and_controls_have_names(pages: list[Path], open_page: Opener, name: str) -> None:
    tab = open_page(next(folder for folder in (pages[1], pages[2]) if (folder / name).exists()), name)
    backgrounds = []
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        backgrounds.append(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert tab.evaluate(CONTRAST) == [], scheme
    assert backgrounds == ["rgb(247, 247, 245)", "rgb(20, 22, 24)"]
    assert tab.evaluate(UNNAMED) == []
