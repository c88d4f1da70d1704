"""The files of the page: whole, self-contained, the same each time; and what its numbers are."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

from codeczoo.base import audio_io
from codeczoo.benchmark.results import audio_name
from codeczoo.report.formatting import decimals, fixed
from codeczoo.report.page import PAGES, write_report
from codeczoo.report.published import compare, published_table
from codeczoo.report.results import read_report
from codeczoo.report.spectrogram import MAX_COLUMNS, MAX_ROWS, height_to_hz, spectrogram, ticks, write_pictures
from tests.report.conftest import CLIPS, CODECS, HOSTILE, LONG, run_benchmark


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Links(HTMLParser):
    """Everything that a page loads or runs."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for key, value in attrs if key in ("src", "href")]
        self.handlers += [key for key, _ in attrs if key.startswith("on")]
        if tag == "script" and "src" not in dict(attrs):
            self.inline.append(dict(attrs).get("type") or "")


@pytest.mark.parametrize("name", [name for name, _ in PAGES])
def test_a_page_loads_only_what_lies_beside_it(pages: list[Path], name: str) -> None:
    folders = [folder for folder in pages if (folder / name).exists()]
    assert folders
    for folder in folders:
        links = Links()
        links.feed((folder / name).read_text("utf-8"))
        assert links.handlers == []
        assert set(links.inline) <= {"application/json"}
        for target in links.loads:
            if not target.startswith(("#", "data:")):
                assert (folder / unquote(target.partition("#")[0])).is_file(), target


def test_the_same_results_give_the_same_bytes(results: Path, page: Path, tmp_path: Path) -> None:
    again = write_report([results], tmp_path / "report").parent
    one, other = contents(page), contents(again)
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []


def test_a_report_is_written_anew_and_nothing_else_is_touched(results: Path, tmp_path: Path) -> None:
    out = write_report([results], tmp_path / "report", clips=1).parent
    assert len(list((out / "clips").iterdir())) == 1
    (out / "clips" / "0001" / "stale.flac").touch()
    write_report([results], out, title="<A> & B")
    assert len(list((out / "clips").iterdir())) == len(CLIPS)
    assert not list(out.rglob("stale.flac"))
    assert "<title>Leaderboard · &lt;A&gt; &amp; B</title>" in (out / "index.html").read_text("utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report"]
    with pytest.raises(ValueError, match="is no report"):
        write_report([results], results)
    assert (results / "run.json").exists()


def test_a_failure_on_the_way_leaves_the_old_report(results: Path, tmp_path: Path) -> None:
    out = write_report([results], tmp_path / "report", clips=1).parent
    before = contents(out)
    broken = tmp_path / "results"
    shutil.copytree(results, broken)
    (broken / "audio" / "opus_12k" / audio_name(LONG)).write_bytes(b"fLaC")
    with pytest.raises(ValueError, match=r"speech_long\.flac: (truncated|not readable)"):
        write_report([broken], out)
    assert contents(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "results"]


def test_clips_are_copied_and_spread_over_categories(results: Path, tmp_path: Path) -> None:
    out = write_report([results], tmp_path / "report", clips=3).parent
    text = (out / "listening.html").read_text("utf-8")
    assert f"3 of {len(CLIPS)} saved clips" in text
    assert set(re.findall(r'data-category="(\w+)"', text)) == {"audio", "music", "speech"}
    copied = sorted((out / "clips").rglob("*.flac"))
    assert len(copied) == 3 * (1 + len(CODECS))
    saved = {path.read_bytes() for path in (results / "audio").rglob("*.flac")}
    assert all(path.read_bytes() in saved for path in copied)


def test_originals_and_audio_that_were_not_saved_are_said_to_be_missing(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    shutil.rmtree(folder / "audio" / "original")
    shutil.rmtree(folder / "audio" / "mp3_32k")
    (folder / "audio" / "opus_24k" / audio_name(LONG)).unlink()
    text = (write_report([folder], tmp_path / "report").parent / "listening.html").read_text("utf-8")
    assert text.count("The original of this clip was not saved.") == len(CLIPS)
    assert "No saved audio: mp3_32k." in text
    assert text.count("its audio was not saved") == 1
    shutil.rmtree(folder / "audio")
    index = write_report([folder], tmp_path / "report")
    assert "no audio was saved (<code>--save-audio</code>)" in index.read_text("utf-8")
    assert not (index.parent / "listening.html").exists() and not (index.parent / "blind.html").exists()


def test_clips_of_mixed_runs_are_not_taken_for_one_another(results: Path, hostile: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(hostile, other)
    lines = (other / "clips.jsonl").read_text().replace('"silence"', '"music_pluck_mono_32k"')
    (other / "clips.jsonl").write_text(lines)
    for path in other.glob("audio/*/silence.flac"):
        path.rename(path.with_name("music_pluck_mono_32k.flac"))
    out = write_report([results, other], tmp_path / "report", allow_mixed=True).parent
    text = (out / "listening.html").read_text("utf-8")
    players = re.findall(r'data-text="music_pluck_mono_32k".*?</article>', text, re.DOTALL)
    assert [len(re.findall("<audio", player)) for player in players] == [3, 1 + len(CODECS)]
    assert "These runs are not comparable" in (out / "index.html").read_text("utf-8")


def test_a_codec_that_failed_on_a_saved_clip_is_named_there(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    lines = [json.loads(line) for line in (folder / "clips.jsonl").read_text().splitlines()]
    for line in lines:
        if (line["codec"], line["id"]) == ("mp3_32k", LONG):
            # What an earlier run saved may still lie there.
            line.update(status="failed", stage="decode", reason="RuntimeError: <out of memory>")
    (folder / "clips.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = (write_report([folder], tmp_path / "report").parent / "listening.html").read_text("utf-8")
    assert "decode: RuntimeError: &lt;out of memory&gt;" in text
    assert text.count("<audio") == len(CLIPS) * (1 + len(CODECS)) - 1


def test_a_name_of_saved_audio_is_safe_and_unique() -> None:
    assert audio_name("a/b c") == "a%2Fb c.flac"
    assert audio_name("a__b") != audio_name("a/b") != audio_name("a%2Fb")
    names = [audio_name("ü" * 300), audio_name("ü" * 301), audio_name(HOSTILE), audio_name("..")]
    assert len(set(names)) == 4
    for name in names:
        assert "/" not in name and name.endswith(".flac") and len(name.encode()) <= 200


def test_failures_and_undefined_values_are_named(hostile_page: Path) -> None:
    text = (hostile_page / "failures.html").read_text("utf-8")
    assert "2 clips, 4 codings" in text
    assert text.count('class="codecs"') == 2 and text.count(">all 2<") == 2  # each clip once, not once a codec
    for reason in ("not readable as audio", "NaN", "the original is silent"):
        assert reason in text
    assert "1 on each of 2 codecs" in text
    index = (hostile_page / "index.html").read_text("utf-8")
    assert "4 failed" in index
    assert HOSTILE not in index + text and "<b>speech" not in index + text


@pytest.mark.parametrize("name", ["encodec_24k_1_5bps", "encodec_24k_1_5kbps"])
def test_published_rows_stand_beside_ours(name: str, manifest: Path, tmp_path: Path) -> None:
    metrics = ("superb/mel", "superb/stoi", "waveform")
    run = run_benchmark(
        manifest,
        tmp_path / "run",
        "--codecs",
        name,
        "opus_12k",
        "--weights",
        f"{name}=random",
        "--limit",
        "2",
        "--metrics",
        *metrics,
    )
    comparison = compare(read_report([run]))
    assert len(comparison.rows) == 34
    row, *others = comparison.rows
    assert row.name == "encodec_24k_1_5bps" and row.codec is not None
    assert all(other.codec is None for other in others)
    assert comparison.unlisted == ["opus_12k"]
    assert [(c.theirs, c.ours, c.same) for c in comparison.columns] == [
        ("mel", "superb/mel", True),
        ("stft", None, False),
        ("waveform", "waveform", False),
        ("pesq", None, False),
        ("stoi", "superb/stoi", True),
        ("f0corr", None, False),
    ]
    summary = json.loads((run / "summary.json").read_text())["codecs"][name]
    theirs = published_table()["codecs"]["encodec_24k_1_5bps"]["results"]
    for category, ours in (("overall", summary["overall"]), ("Speech", summary["categories"]["speech"])):
        cells = row.cells[category]
        assert cells[0].theirs == theirs[category]["mel"]
        assert cells[0].difference == pytest.approx(ours["superb/mel"]["mean"] - theirs[category]["mel"])
        # By another definition there is a value and no difference.
        assert cells[2].ours is not None and cells[2].difference is None
        assert cells[1].ours is None
    assert not comparison.exact  # the protocol is zoo
    text = (write_report([run], tmp_path / "report").parent / "published.html").read_text("utf-8")
    assert "Their definitions, another protocol" in text and "Another data set" in text
    assert "waveform, another definition" in text and "random weights" in text


def test_pages_without_content_are_not_there(page: Path, neural_page: Path) -> None:
    for folder, absent in ((page, "published.html"), (neural_page, "categories.html"), (neural_page, "failures.html")):
        assert not (folder / absent).exists()
        for file in folder.glob("*.html"):
            assert f'href="{absent}"' not in file.read_text("utf-8")
    assert (neural_page / "published.html").exists() and (page / "categories.html").exists()


def test_without_their_metrics_the_page_says_so(neural_page: Path) -> None:
    text = (neural_page / "published.html").read_text("utf-8")
    assert "No <code>superb/*</code> metric was measured" in text
    assert "stoi, another definition" in text and "ours − theirs" not in text.partition("<tbody")[0]


def test_the_published_table_is_whole() -> None:
    table = published_table()
    assert len(table["codecs"]) == 34
    assert sum(any(f["kind"] == "not resampled" for f in entry["flags"]) for entry in table["codecs"].values()) == 9
    for name, entry in table["codecs"].items():
        means = entry["results"]
        for metric in ("mel", "stft", "waveform", "pesq", "stoi", "f0corr"):
            mean = sum(means[category][metric] for category in ("Speech", "Audio", "Music")) / 3
            assert means["overall"][metric] == pytest.approx(mean, rel=2e-5), (name, metric)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_tone_is_a_line_at_its_frequency(rate: int) -> None:
    time = torch.arange(2 * rate) / rate
    tone = 0.5 * torch.sin(2 * torch.pi * 1500 * time) * (time > 1)
    picture = spectrogram(tone[None], rate).decibels
    assert picture.shape[0] == MAX_ROWS and picture.shape[1] <= MAX_COLUMNS
    edges = height_to_hz(np.linspace(0, 1, MAX_ROWS + 1), rate)
    assert edges[0] == 0 and edges[-1] == pytest.approx(rate / 2)
    late = picture[:, -picture.shape[1] // 4]
    row = int(late.argmax())
    assert edges[row - 1] < 1500 < edges[row + 2]
    assert late.max() > -20 and late[: row // 2].max() < late.max() - 40
    assert picture[:, picture.shape[1] // 4].max() < -100


def test_silence_is_black_beside_what_is_all_but_silent(tmp_path: Path) -> None:
    hiss = 1e-3 * (torch.rand(1, 16000) - 0.5)
    pictures = {tmp_path / "a.png": torch.zeros(1, 16000), tmp_path / "b.png": hiss}
    write_pictures({path: spectrogram(waveform, 16000) for path, waveform in pictures.items()})
    with Image.open(tmp_path / "a.png") as silent, Image.open(tmp_path / "b.png") as heard:
        assert np.asarray(silent).max() == 0
        assert np.asarray(heard).max() == 63


def test_spectrograms_of_odd_lengths() -> None:
    for samples in (1, 100, 50 * 16000):
        picture = spectrogram(torch.rand(2, samples) - 0.5, 16000)
        assert 1 <= picture.decibels.shape[1] <= MAX_COLUMNS
        assert np.isfinite(picture.decibels).all()
    heights = [height for _, height in ticks(48000)]
    assert heights == sorted(heights) and all(0 < height < 100 for height in heights)


def test_one_colour_scale_within_a_clip(results: Path, page: Path) -> None:
    """The same level has the same colour in the original and in what a codec made of it, for the whole clip."""
    text = (page / "listening.html").read_text("utf-8")
    number = re.search(rf'id="clip-(\d+)"[^>]*data-text="{LONG}"', text)
    assert number is not None
    folder = page / "clips" / f"{int(number[1]):04d}"
    pictures = {}
    for path in sorted(folder.glob("*.png")):
        waveform, rate = audio_io.read(path.with_suffix(".flac"))
        pictures[path] = spectrogram(waveform, rate).decibels
    top = max(picture.max() for picture in pictures.values())
    for path, decibels in pictures.items():
        with Image.open(path) as image:
            shown = np.asarray(image)[::-1]
        expected = np.round(63 * np.clip(1 + (decibels - top) / 80, 0, 1))
        assert np.abs(shown - expected).max() <= 1
    assert len(pictures) == 1 + len(CODECS)
    assert len({path.read_bytes() for path in pictures}) == len(pictures)


def test_numbers_are_shown_as_they_are() -> None:
    assert decimals([0.0401, 0.0086, None]) == 4
    assert decimals([252.0, 11.0, 300.0]) == 0
    assert (fixed(None, 2), fixed(-0.001, 2), fixed(-1.5, 1), fixed(0.0, 2)) == ("–", "0.00", "−1.5", "0.00")
