"""What a release must pass: built, checked, its content compared with git, installed by itself, and used far from here.

    make release-check                        RELEASE_ARGS=--dated: the changelog must have a date too

`dist/` then holds what was checked. Nothing of the checkout is on the path of the new environment, and pip may use
wheels only, so that no compiler is needed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
LARGEST_WHEEL = 12 << 20  # bytes
WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".onnx", ".gguf", ".bin", ".npz")
OWN_WEIGHTS = ("codeczoo/codecs/weights/zoo_16k.safetensors",)  # the codec in the package
SMOKE = """
import shutil, sys
import codeczoo, torch
from codeczoo import Audio, Codes, load_codec
from codeczoo.data import embedded_clips

assert sys.prefix in codeczoo.__file__, codeczoo.__file__
clip = next(path for path in embedded_clips() if path.stem == "speech_en_female_16k")
shutil.copy(clip, "clip.flac")
codec = load_codec("zoo_16k", device="cpu", local_files_only=True)
codes = codec.encode("clip.flac")
assert tuple(codes.tensor.shape) == (1, 12, 208), codes
assert codec.decode(codes).lengths.tolist() == Audio.load("clip.flac").lengths.tolist()
"""
COMMANDS = (
    ("--version",),
    ("list",),
    ("env",),
    ("encode", "clip.flac", "--codec", "zoo_16k", "--device", "cpu", "-o", "codes.safetensors", "--quiet"),
    ("decode", "codes.safetensors", "--device", "cpu", "-o", "back.wav", "--quiet"),
    ("encode", "clip.flac", "--codec", "opus_12k", "-o", "opus.safetensors", "--quiet"),
    ("decode", "opus.safetensors", "-o", "opus.wav", "--quiet"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dated", action="store_true", help="the changelog's section must have a date")
    args = parser.parse_args()
    version = version_of(ROOT)
    say(f"codeczoo {version}: changelog and citation")
    faults = papers(ROOT, version, dated=args.dated)
    say("building")
    wheel, archive = build()
    run(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(archive))
    say("the wheel's content")
    with zipfile.ZipFile(wheel) as file:
        content = {item.filename: item.file_size for item in file.infolist()}
    sys.stdout.write(listing(content))
    faults += wrong_content(content, tracked(ROOT)) + wrong_size(wheel)
    if faults:
        raise SystemExit("\n".join(f"fault: {fault}" for fault in faults))
    with tempfile.TemporaryDirectory(prefix="codeczoo-release-") as folder:
        use(wheel, Path(folder), version)
    say(f"good: {wheel.relative_to(ROOT)}, {archive.relative_to(ROOT)}")
    return 0


def version_of(root: Path) -> str:
    found = re.search(r'^__version__ = "(.+)"$', (root / "codeczoo" / "version.py").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    return found.group(1)


def papers(root: Path, version: str, *, dated: bool = False) -> list[str]:
    """What is wrong with the changelog and the citation of this version."""
    faults = []
    heading = re.search(
        rf"^## \[{re.escape(version)}\](?: - (\S+))?$", (root / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    if heading is None:
        faults.append(f"CHANGELOG.md has no section '## [{version}]'")
    elif dated and not re.fullmatch(r"\d{4}-\d\d-\d\d", heading.group(1) or ""):
        faults.append(f"CHANGELOG.md: the section of {version} has no date: '## [{version}] - YYYY-MM-DD'")
    if f"\nversion: {version}\n" not in (root / "CITATION.cff").read_text("utf-8"):
        faults.append(f"CITATION.cff does not say 'version: {version}'")
    return faults


def build() -> tuple[Path, Path]:
    """The wheel, made of the source archive, and that."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", str(DIST), str(ROOT))
    (wheel,), (archive,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    return wheel, archive


def tracked(root: Path) -> set[str]:
    """The files of the package that git tracks."""
    names = run("git", "-C", str(root), "ls-files", "-z", "codeczoo", capture=True)
    return {name for name in names.split("\0") if name}


def wrong_content(content: dict[str, int], wanted: set[str]) -> list[str]:
    """What is missing from a wheel, and what should not be in it."""
    here = {name for name in content if not re.match(r"codeczoo-[^/]+\.dist-info/", name)}
    faults = [f"not in the wheel: {name}" for name in sorted(wanted - here)]
    faults += [f"in the wheel, and not in git: {name}" for name in sorted(here - wanted)]
    faults += [
        f"a test in the wheel: {name}" for name in sorted(here) if re.search(r"(^|/)(tests?/|test_|conftest)", name)
    ]
    faults += [
        f"weights in the wheel: {name}" for name in sorted(here) if name.endswith(WEIGHTS) and name not in OWN_WEIGHTS
    ]
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in content):
        faults.append("the licence is not in the wheel")
    return faults


def wrong_size(wheel: Path) -> list[str]:
    size = wheel.stat().st_size
    say(f"{wheel.name}: {size / 1e6:.2f} MB")
    return [f"the wheel has {size} bytes, more than {LARGEST_WHEEL}"] if size > LARGEST_WHEEL else []


def listing(content: dict[str, int]) -> str:
    """Files and bytes of each folder, and the largest files."""
    folders: dict[str, tuple[int, int]] = {}
    for name, size in content.items():
        count, total = folders.get(folder := str(Path(name).parent), (0, 0))
        folders[folder] = (count + 1, total + size)
    lines = [f"  {count:4} files {total:9} bytes  {folder}/" for folder, (count, total) in sorted(folders.items())]
    largest = sorted(content.items(), key=lambda item: -item[1])[:5]
    return "\n".join([*lines, *(f"  largest: {size} bytes  {name}" for name, size in largest)]) + "\n"


def use(wheel: Path, folder: Path, version: str) -> None:
    """Install the wheel alone, and encode and decode with it."""
    say("a fresh environment: wheels only")
    run(sys.executable, "-m", "venv", str(folder / "venv"))
    bin_folder = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = str(bin_folder / "python")
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:")
    # torch in the version of development, so that a build that is there already, as one without CUDA, is taken.
    run(*pip, "-c", str(ROOT / "constraints.txt"), str(wheel), clean=True)
    far = folder / "far"
    far.mkdir()
    say("used in a folder far from the checkout")
    run(python, "-c", SMOKE, cwd=far, clean=True)
    for command in COMMANDS:
        told = run(str(bin_folder / "codeczoo"), *command, cwd=far, clean=True, capture=True)
        if command == ("--version",) and told.strip() != version:
            raise SystemExit(f"fault: codeczoo --version says {told.strip()}, not {version}")
        say(f"codeczoo {' '.join(command)}: {len(told.splitlines())} lines")
    missing = [name for name in ("back.wav", "opus.wav") if not (far / name).is_file()]
    if missing:
        raise SystemExit(f"fault: not written: {', '.join(missing)}")


def run(*command: str, cwd: Path | None = None, clean: bool = False, capture: bool = False) -> str:
    """Run a command; `clean`: without this checkout on Python's path, without a network for weights."""
    environment = dict(os.environ)
    if clean:
        environment.pop("PYTHONPATH", None)
        environment |= {"HF_HUB_OFFLINE": "1", "CC": "no-compiler-is-needed"}
    done = subprocess.run(command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE if capture else None)
    if done.returncode != 0:
        raise SystemExit(f"fault: exit code {done.returncode} of: {' '.join(command)[:200]}")
    return done.stdout or ""


def say(text: str) -> None:
    print(f"release-check: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
