"""`codeczoo app`: a page to try codecs on, by Gradio (extra `[app]`). Nothing is sent anywhere, and no font is fetched.

from codeczoo.app.interface import launch

launch()          # all of a hub Space's app.py
"""

from __future__ import annotations

import html
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

# Read when Gradio is imported: no statistics, and no question after a newer version.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

try:
    import gradio as gr
    import matplotlib  # noqa: F401 (spectrograms are drawn with it)
    import PIL  # noqa: F401
except ImportError as error:
    raise ImportError(f"the app needs Gradio: pip install 'codeczoo[app]' ({error})") from error

from codeczoo.app.comparison import Choice, compare, read_recording, remove_old
from codeczoo.base.catalogue import codec_info, find_variant, list_codecs
from codeczoo.base.errors import message_of
from codeczoo.data import embedded_clips
from codeczoo.report.formatting import kbps

MAX_SECONDS, MAX_MEGABYTES = 30.0, 25
SLOTS = ("zoo_16k", "opus_12k", None, None)  # the codecs that are compared, at first
WAITING = 8  # requests that may wait; further ones are told to come again
EXAMPLES = ("speech_en_female_16k", "music_band_stereo_44k", "audio_wind_mono_16k")
SWEEP_SECONDS = 300.0  # between looks for what is old
NONE = "–"
OWN_RATE = "default"
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif")
STYLE = """
footer { display: none !important; }
.told { font-size: 0.9rem; }
.frame iframe { width: 100%; border: 0; min-height: 20rem; color-scheme: light dark; }
.trouble p { border-left: 4px solid #b45309; padding: 0.5rem 0.8rem; margin: 0; overflow-wrap: anywhere; }
"""


def launch(
    *,
    host: str | None = None,
    port: int | None = None,
    max_seconds: float = MAX_SECONDS,
    max_megabytes: float = MAX_MEGABYTES,
    device: str | None = None,
    open_browser: bool = False,
    block: bool = True,
) -> gr.Blocks:
    """Start the app, and serve it until Ctrl-C.

    Args:
        host: the address to listen on; None = GRADIO_SERVER_NAME (which a hub Space sets), else this machine only.
        port: None = GRADIO_SERVER_PORT, else the first free one from 7860 on.
        max_seconds, max_megabytes: of a recording.
        device: as `load_codec`'s.
        block: wait here; False = return the running app, whose `local_url` is its address and whose `close()` ends it.

    Raises:
        OSError: the port is taken.
    """
    own = tempfile.TemporaryDirectory(prefix="codeczoo-app-")  # of recordings and results; it goes when the app ends
    results, uploads = (Path(own.name).resolve() / name for name in ("results", "uploads"))
    results.mkdir()
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    app = build(results, max_seconds=max_seconds, max_megabytes=max_megabytes, device=device)
    app.own_folder = own
    app.queue(max_size=WAITING, default_concurrency_limit=1)  # one at a time: codecs share the machine
    try:
        _serve(app, results, host, port, max_megabytes, open_browser)
    except OSError as error:
        if port is None:
            raise
        raise OSError(f"port {port} is taken, or may not be used: choose another with --port (port=)") from error
    threading.Thread(target=_remove_old_for_ever, args=(results, uploads), daemon=True).start()
    print(f"codeczoo app: {app.local_url}  (Ctrl-C ends it)", flush=True)  # noqa: T201 (a server says where it is)
    if block:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))  # as services are ended: cleans up too
        try:
            app.block_thread()
        finally:
            own.cleanup()
    return app


def _remove_old_for_ever(*folders: Path) -> None:
    while True:
        time.sleep(SWEEP_SECONDS)
        for folder in folders:
            remove_old(folder)


def _serve(
    app: gr.Blocks, folder: Path, host: str | None, port: int | None, max_megabytes: float, open_browser: bool
) -> None:
    app.launch(
        server_name=host,
        server_port=port,
        inbrowser=open_browser,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        show_error=True,
        footer_links=[],
        allowed_paths=[str(folder)],
        max_file_size=round(max_megabytes * 2**20),
        ssr_mode=False,
        theme=gr.themes.Base(font=FONTS, font_mono=("ui-monospace", "monospace")),
        css=STYLE,
    )


def build(folder: Path, *, max_seconds: float, max_megabytes: float, device: str | None = None) -> gr.Blocks:
    """The page. `folder`: where results are written, which `launch` serves."""

    def check(path: str | None) -> tuple[Any, Any]:
        """A recording that cannot be taken is put away, and why is said until there is another."""
        if path is None:  # put away just now, or by the user, which `clear` says
            return gr.skip(), gr.skip()
        try:
            read_recording(path, max_seconds)
        except (ValueError, OSError) as error:
            return None, _trouble(_about(path, error))
        return gr.skip(), ""

    def run(path: str | None, *values: Any, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008 (Gradio's way)
        chosen = [
            Choice(name, None if rate == OWN_RATE else float(rate))
            for name, rate in zip(values[::2], values[1::2], strict=True)
            if name != NONE
        ]
        if path is None:
            return _trouble("There is no recording yet: record one, upload a file, or take an example.")
        try:
            page = compare(
                path,
                chosen,
                folder,
                max_seconds=max_seconds,
                device=device,
                address=lambda file: f"gradio_api/file={file}",
                progress=lambda share, text: progress(share, desc=text),
            )
        except (ValueError, OSError) as error:
            return _trouble(_about(path, error))
        return f'<iframe title="What the codecs leave of it" srcdoc="{html.escape(page, quote=True)}"></iframe>'

    with gr.Blocks(title="codeczoo", analytics_enabled=False) as app:
        gr.Markdown(
            "# codeczoo\nHear what codecs leave of a recording, beside the original, sample by sample. "
            f"Up to {max_seconds:g} s and {max_megabytes:g} MB; what you record is deleted after an hour."
        )
        with gr.Row():
            with gr.Column(min_width=300):
                recording = gr.Audio(
                    sources=["microphone", "upload"],
                    type="filepath",
                    label="Recording",
                    elem_id="recording",
                    buttons=["download"],
                )
                told = gr.HTML(elem_classes="trouble")
                gr.Examples(_examples(), recording, label="Or one of these", cache_examples=False)
            with gr.Column(min_width=300):
                slots = [part for number, name in enumerate(SLOTS, 1) for part in _slot(number, name)]
                gr.Markdown(
                    "Codecs marked “here” work at once; the others fetch their published weights from the hub when "
                    "they are first used. One comparison runs at a time; the others wait, and see their place.",
                    elem_classes="told",
                )
                start = gr.Button("Compare", variant="primary")
        shown = gr.HTML(elem_classes=["frame", "trouble"], elem_id="result")
        recording.change(check, recording, [recording, told], show_progress="hidden", concurrency_limit=4)
        recording.clear(lambda: "", None, told, show_progress="hidden", concurrency_limit=4)
        start.click(run, [recording, *slots], shown)
    return app


def _about(path: str, error: Exception) -> str:
    """The error's message, with the file under its own name: its folder is the server's matter."""
    return message_of(error).replace(path, Path(path).name)


def _trouble(message: str) -> str:
    return f'<p role="alert">{html.escape(message)}</p>'


def _examples() -> list[list[str]]:
    return [[str(path)] for path in embedded_clips() if path.stem in EXAMPLES]


def _slot(number: int, name: str | None) -> tuple[gr.Dropdown, gr.Dropdown]:
    """A codec and its rate, beside each other."""
    with gr.Row():
        codec = gr.Dropdown(_codecs(), value=name or NONE, label=f"Codec {number}", min_width=140, scale=3)
        rate = gr.Dropdown(_rates(name or NONE), value=OWN_RATE, label="Rate", min_width=110, scale=2)
    codec.input(
        lambda chosen: gr.Dropdown(_rates(chosen), value=OWN_RATE),
        codec,
        rate,
        show_progress="hidden",
        concurrency_limit=4,
    )
    return codec, rate


def _codecs() -> list[tuple[str, str]]:
    """(what is shown, name) of all that decode; those that need no download come first."""
    infos = [info for info in map(codec_info, list_codecs()) if info.supports_decode]
    here = {info.name: not (w := find_variant(info.name).weights) or w.package is not None for info in infos}
    told = {
        info.name: f"{info.name} · here"
        if here[info.name]
        else f"{info.name} · {info.parameters / 1e6:.0f} M parameters"
        for info in infos
    }
    return [(NONE, NONE), *((told[name], name) for name in sorted(here, key=lambda name: (not here[name], name)))]


def _rates(name: str) -> list[tuple[str, str]]:
    rates = () if name == NONE else codec_info(name).bitrates
    return [(OWN_RATE, OWN_RATE), *((f"{kbps(rate)} kbit/s", str(rate)) for rate in (rates if len(rates) > 1 else ()))]
