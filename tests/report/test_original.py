"""The original beside the codec, in metrics that judge both; and what applications make of a codec."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser

from codeczoo.data import embedded_manifest
from codeczoo.metrics.networks.models import NoModelError, network
from codeczoo.report.page import write_report
from codeczoo.report.results import read_report
from tests.report.conftest import run_benchmark

CLIPS = ("speech_es_word_16k", "music_pluck_mono_32k")
WIDTHS = (390, 1360)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bitrates of Opus, judged by DistillMOS with its real weights."""
    try:
        network("distillmos", torch.device("cpu"))
    except NoModelError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("judged")
    source = embedded_manifest().parent
    lines = [f"{name},{source / name}.flac,{name.partition('_')[0]}\n" for name in CLIPS]
    (folder / "clips.csv").write_text("id,path,category\n" + "".join(lines))
    codecs = ("opus_6k", "opus_24k")
    return run_benchmark(folder / "clips.csv", folder / "run", "--codecs", *codecs, "--metrics", "distillmos", "mel")


@pytest.fixture(scope="module")
def judged_page(judged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([judged], tmp_path_factory.mktemp("page") / "report").parent


def test_a_cell_has_the_original_the_codec_and_the_difference(judged: Path, judged_page: Path) -> None:
    entry = json.loads((judged / "summary.json").read_text())["codecs"]["opus_6k"]["overall"]["distillmos"]
    against = entry["against_original"]
    html = (judged_page / "index.html").read_text("utf-8")
    assert f'<span class="was">{against["original"]:.2f} →</span>' in html
    number = f"{against['difference']:+.2f}".replace("-", "−")
    assert f'<span class="against">{number}</span>' in html
    assert "distillmos_reference" not in html
    content = json.loads((judged_page / "report.json").read_text("utf-8"))
    assert list(content["metrics"]) == ["mel", "distillmos"]
    values = next(c for c in content["codecs"] if c["codec"] == "opus_6k")["overall"]["values"]
    assert values["distillmos"]["against"]["difference"] == against["difference"]
    assert values["mel"]["against"] is None


def test_plots_have_a_line_at_the_original(judged: Path, judged_page: Path) -> None:
    text = (judged_page / "index.html").read_text("utf-8")
    match = re.search(r'<script type="application/json" id="plot-data">(.*?)</script>', text, re.DOTALL)
    assert match is not None
    plots = json.loads(match.group(1))
    report = read_report([judged])
    for plot in plots:
        layout = plot["figure"]["layout"]
        if plot["metric"] == "mel":
            assert "shapes" not in layout
            continue
        original = report.original("distillmos", plot["category"])
        (line,) = layout["shapes"]
        assert line["y0"] == line["y1"] == original
        low, high = layout["yaxis"]["range"]
        assert low < original < high
        assert layout["annotations"][0]["text"].startswith("original ")


def test_the_original_has_its_own_values_on_the_listening_page(judged: Path, judged_page: Path) -> None:
    text = (judged_page / "listening.html").read_text("utf-8")
    original = text[text.index('<span class="name">original') :].split('<div class="source">')[0]
    assert "<dt>distillmos</dt>" in original and "<dt>mel</dt>" not in original
    assert "best" not in original, "it does not compete with the codecs"
    assert "_reference" not in text


@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_to_be_seen_and_no_wider_than_the_window(judged_page: Path, browser: Browser, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((judged_page / "index.html").as_uri())
    cell = page.locator("#leaderboard tbody:not([hidden]) td[data-column=distillmos]").first
    assert re.fullmatch(r"◆?\d\.\d\d → \d\.\d\d", cell.inner_text().split("\n")[0].strip())
    page.locator("figure[data-metric=distillmos] .shapelayer path").first.wait_for(state="attached")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
    page.close()


def test_applications_are_told_done_or_not(judged: Path, tmp_path: Path) -> None:
    """As the protocol leaves them in summary.json."""
    folder = tmp_path / "results"
    shutil.copytree(judged, folder)
    summary = json.loads((folder / "summary.json").read_text())
    facts = {"measure": "equal error rate", "data": "a trial list", "model": "WavLM", "pinned": "abc"}
    found = {"eer": 0.0525, "original": 0.0125, "targets": 40, "others": 60, "left_out": {"no saved audio": 2}}
    summary["applications"] = [
        {**facts, "name": "speaker_verification", "done": True, "codecs": {"opus_6k": found}},
        {**facts, "name": "emotion", "done": False, "reason": "there is no <implementation> of it"},
    ]
    (folder / "summary.json").write_text(json.dumps(summary))
    html = write_report([folder], tmp_path / "page").read_text("utf-8")
    section = html[html.index('id="applications"') : html.index('id="plots"')]
    for text in ("speaker verification", "5.25 %", "1.25 %", "100 trials", "2 left out: no saved audio"):
        assert text in section
    assert "not done: there is no &lt;implementation&gt; of it" in section
    assert 'id="applications"' not in write_report([judged], tmp_path / "other").read_text("utf-8")
