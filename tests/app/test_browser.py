"""The app as people use it: its own process, in a real browser with a microphone that beeps."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from codeczoo.data import embedded_manifest
from tests.report.conftest import BROWSERS, FLAGS
from tests.support.command_line import COMMAND, ENVIRONMENT, ROOT

pytest.importorskip("gradio", reason="the extra [app] is not installed")
pytestmark = pytest.mark.slow

MICROPHONE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
PATIENCE = 90_000  # ms


@contextmanager
def served(*command: str, **environment: str) -> Iterator[str]:
    """The address of the app in a process of its own, which is ended as services are."""
    variables = {**ENVIRONMENT, "HF_HUB_OFFLINE": "1", **environment}
    child = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        found = re.search(r"https?://\S+", child.stdout.readline())
        assert found is not None
        yield found.group()
    finally:
        child.terminate()
        assert child.wait(30) == 0


class Recorder:
    """A proxy that lets nobody through, and counts who came."""

    def __init__(self) -> None:
        self.came = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.came += 1
            connection.close()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def outside() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def address(outside: Recorder, temporary: Path) -> Iterator[str]:
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), outside.address)
    proxies |= {name.lower(): value for name, value in proxies.items()} | {"NO_PROXY": "127.0.0.1,localhost"}
    with served(*COMMAND, "app", TMPDIR=str(temporary), **proxies) as address:
        yield address
    assert not list(temporary.glob("codeczoo-app-*"))  # recordings and results went with it


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        message = f"no browser found ({', '.join(BROWSERS)}); on Debian: apt install chromium"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=[*FLAGS, *MICROPHONE])
        yield browser
        browser.close()


@contextmanager
def visiting(chromium: Browser, address: str, width: int = 1360) -> Iterator[Page]:
    """The app in a window of its own; nothing but its server is asked, and no script fails."""
    context = chromium.new_context(viewport={"width": width, "height": 900}, permissions=["microphone"])
    page = context.new_page()
    asked, failed = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    expect(page.get_by_role("button", name="Compare")).to_be_visible(timeout=PATIENCE)
    yield page
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert failed == []
    context.close()


def upload(page: Page, path: Path) -> None:
    if not page.locator("#recording input[type=file]").count():
        page.get_by_role("button", name="Upload file").click()
    page.set_input_files("#recording input[type=file]", path)


def take_example(page: Page) -> None:
    page.get_by_text("speech_en_female_16k.flac").click()
    expect(page.locator("#recording").get_by_role("button", name="Play", exact=True)).to_be_visible(timeout=PATIENCE)


def result(page: Page) -> Locator:
    frame = page.frame_locator("#result iframe")
    expect(frame.locator("article.clip")).to_be_visible(timeout=PATIENCE)
    return frame.locator("body")


@pytest.mark.parametrize("width", [1360, 390])
def test_what_is_recorded_is_heard_aligned_with_the_original(chromium: Browser, address: str, width: int) -> None:
    with visiting(chromium, address, width) as page:
        page.get_by_role("button", name="Record", exact=True).click()
        page.wait_for_timeout(2000)
        page.get_by_role("button", name="Stop", exact=True).click()
        expect(page.locator("#recording").get_by_role("button", name="Play", exact=True)).to_be_visible()
        page.get_by_role("button", name="Compare").click()
        shown = result(page)
        assert shown.locator(".source .name").all_inner_texts() == ["original 0", "zoo_16k 1", "opus_12k 2"]
        assert shown.locator(".codes img").count() == 2
        shown.locator("button.play").click()
        expect(shown.locator(".at")).not_to_have_text("0.0")
        shown.locator("input[type=radio]").nth(1).check()
        state = "all => all.map(audio => [audio.paused, audio.currentTime, audio.duration])"
        original, other, _ = shown.locator("audio").evaluate_all(state)
        assert (original[0], other[0]) == (True, False)
        assert other[1] >= original[1] > 0
        assert original[2] == other[2] > 0.5
        for frame in page.frames:  # neither the page nor the result scrolls sideways
            assert frame.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), frame.url


def test_codecs_and_rates_are_chosen(chromium: Browser, address: str) -> None:
    with visiting(chromium, address) as page:
        take_example(page)
        page.get_by_label("Codec 3").fill("zoo_16k")
        page.get_by_role("option", name="zoo_16k · here", exact=True).click()
        page.wait_for_timeout(1000)  # the rates of that codec come from the server
        page.get_by_label("Rate").nth(2).click()
        page.get_by_role("option", name="1.50 kbit/s").click()
        page.get_by_label("Codec 4").fill("mimi")
        page.get_by_role("option", name="mimi · 96 M parameters").click()
        page.get_by_role("button", name="Compare").click()
        shown = result(page)
        assert shown.locator(".source .rate").nth(3).inner_text().startswith("1.50 kbit/s")
        assert "mimi" in shown.locator(".failed").inner_text() and "the network is off" in shown.inner_text()


def test_what_cannot_be_taken_is_said(chromium: Browser, address: str, tmp_path: Path) -> None:
    (tmp_path / "notes.wav").write_text("this is no audio\n" * 50)
    sf.write(tmp_path / "hour.flac", np.zeros(3600 * 8000, np.int16), 8000)
    (tmp_path / "large.wav").write_bytes(bytes(27 << 20))
    with visiting(chromium, address) as page:
        page.get_by_role("button", name="Compare").click()
        expect(page.locator("#result [role=alert]")).to_contain_text("There is no recording yet")
        told = page.locator(".trouble").first
        upload(page, tmp_path / "notes.wav")
        expect(told).to_contain_text("notes.wav: not readable as audio: it is a text", timeout=PATIENCE)
        assert str(Path("uploads")) not in told.inner_text()
        upload(page, tmp_path / "hour.flac")
        expect(told).to_contain_text("hour.flac is 60 minutes long; at most 30 s are taken", timeout=PATIENCE)
        upload(page, tmp_path / "large.wav")
        expect(page.get_by_text("exceed the maximum allowed size")).to_be_visible(timeout=PATIENCE)


def test_a_second_user_waits_and_gets_an_own_result(chromium: Browser, address: str, tmp_path: Path) -> None:
    speech, rate = sf.read(embedded_manifest().parent / "speech_en_female_16k.flac", dtype="int16")
    sf.write(tmp_path / "long.flac", np.tile(speech, 7), rate)
    with visiting(chromium, address) as first, visiting(chromium, address) as second:
        upload(first, tmp_path / "long.flac")
        expect(first.locator("#recording").get_by_role("button", name="Play", exact=True)).to_be_visible(
            timeout=PATIENCE
        )
        take_example(second)
        first.get_by_role("button", name="Compare").click()
        second.get_by_role("button", name="Compare").click()
        expect(second.locator("#result")).to_contain_text("queue: 1/1", timeout=PATIENCE)
        assert result(first).locator("h2").first.inner_text() == "long.flac"
        assert result(second).locator("h2").first.inner_text() == "speech_en_female_16k.flac"


def test_nobody_outside_was_asked_and_nobody_outside_is_served(address: str, outside: Recorder) -> None:
    assert outside.came == 0
    port = int(address.rstrip("/").rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):  # another address of this machine
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_it_runs_as_a_space(chromium: Browser) -> None:
    """Of which the hub sets the address, and runs app.py."""
    with served(sys.executable, str(ROOT / "examples/space/app.py"), GRADIO_SERVER_NAME="0.0.0.0") as address:
        address = address.replace("0.0.0.0", "127.0.0.2")
        with visiting(chromium, address) as page:
            take_example(page)
            page.get_by_role("button", name="Compare").click()
            assert result(page).locator(".codes img").count() == 2
