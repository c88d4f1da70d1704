"""Results to report on, made by real runs of the benchmark; and a browser to look at the report with."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from playwright.sync_api import Browser, sync_playwright

from codeczoo.base import audio_io
from codeczoo.benchmark.results import audio_name
from codeczoo.cli.benchmark import main as benchmark
from codeczoo.data import embedded_manifest
from codeczoo.data.open import open_source
from codeczoo.report.page import write_report

LONG, SECONDS = "speech_long", 3 * 4.15225  # long enough that a slow machine does not come to its end
CLIPS = ("speech_es_word_16k", "music_pluck_mono_32k", "audio_silence_mono_24k", LONG)
CODECS = ("opus_12k", "opus_24k", "mp3_32k", "g711_alaw")
METRICS = ("mel", "si_sdr", "stoi")
HOSTILE = '<script>window.harmed = 1</script>/"it\'s" & {{ 7 * 7 }}'
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def run_benchmark(manifest: Path, out: Path, *arguments: str) -> Path:
    """A real run, with the originals beside what the codecs made of them."""
    code = benchmark(
        ["--dataset", str(manifest), "--out", str(out), "--save-audio", "--workers", "0", "--quiet", *arguments]
    )
    assert code in (0, 3, 4)
    originals = out / "audio" / "original"
    if not originals.exists():
        originals.mkdir()
        for entry in open_source(manifest).entries():
            with contextlib.suppress(ValueError):  # what cannot be read was not coded either
                audio_io.write(originals / audio_name(entry.id), *audio_io.read(entry.key), format="FLAC")
    return out


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips made of embedded ones, in three categories."""
    source = embedded_manifest().parent
    path = tmp_path_factory.mktemp("data") / "clips.csv"
    speech, rate = sf.read(source / "speech_en_female_16k.flac", dtype="int16")
    sf.write(path.parent / f"{LONG}.flac", np.tile(speech, 3), rate)
    for name in CLIPS[:-1]:
        shutil.copy(source / f"{name}.flac", path.parent)
    path.write_text("id,path,category\n" + "".join(f"{name},{name}.flac,{name.split('_')[0]}\n" for name in CLIPS))
    return path


@pytest.fixture(scope="session")
def results(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four codecs on four clips; on silence, SI-SDR and STOI are undefined."""
    out = tmp_path_factory.mktemp("runs") / "results"
    return run_benchmark(manifest, out, "--codecs", *CODECS, "--metrics", *METRICS)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips that cannot be read, one that is silent, and an id and a category that would like to be HTML."""
    folder = tmp_path_factory.mktemp("hostile <i> 'x'")
    source = embedded_manifest().parent
    (folder / "text.wav").write_text("this is no audio\n" * 100)
    sf.write(folder / "nan.wav", np.full(16000, np.nan, dtype=np.float32), 16000, subtype="FLOAT")
    quoted = '"' + HOSTILE.replace('"', '""') + '"'
    (folder / "clips.csv").write_text(
        "id,path,category\n"
        f"{quoted},{source / 'speech_en_female_16k.flac'},<b>speech</b>\n"
        f"silence,{source / 'audio_silence_mono_24k.flac'},audio\n"
        "text,text.wav,broken\n"
        "nan,nan.wav,<b>speech</b>\n"
    )
    return run_benchmark(
        folder / "clips.csv", folder / "results <i>", "--codecs", "opus_12k", "g711_alaw", "--metrics", *METRICS
    )


@pytest.fixture(scope="session")
def page(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the report on `results`."""
    return write_report([results], tmp_path_factory.mktemp("pages") / "report").parent


@pytest.fixture(scope="session")
def hostile_page(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([hostile], tmp_path_factory.mktemp("pages") / "hostile").parent


@pytest.fixture(scope="session")
def neural(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec with codebooks, whose name is in the published table, beside Opus; clips of three speakers."""
    folder = tmp_path_factory.mktemp("neural")
    source = embedded_manifest().parent
    speech, rate = sf.read(source / "speech_en_female_16k.flac", dtype="int16")
    rows = ["id,path,speaker"]
    for i in range(6):
        sf.write(folder / f"{i}.flac", speech[i * 8000 : i * 8000 + 12000], rate)
        rows.append(f"clip{i},{i}.flac,s{i // 2}")
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    codecs = ("encodec_24k_1_5kbps", "opus_12k", "opus_24k")
    weights = ("--weights", "encodec_24k_1_5kbps=random")
    return run_benchmark(
        folder / "clips.csv", folder / "run", "--codecs", *codecs, *weights, "--metrics", "mel", "stoi"
    )


@pytest.fixture(scope="session")
def neural_page(neural: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([neural], tmp_path_factory.mktemp("pages") / "neural").parent


@pytest.fixture(scope="session")
def pages(page: Path, hostile_page: Path, neural_page: Path) -> list[Path]:
    """The folders of three reports, which have different pages."""
    return [page, hostile_page, neural_page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium. Where there is none the tests are skipped, but for CI, which is to have one."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        message = f"no browser found ({', '.join(BROWSERS)}); on Debian: apt install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield chromium
        chromium.close()
