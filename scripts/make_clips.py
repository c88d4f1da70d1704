"""Make the clips embedded in codeczoo/data/clips, and their manifest.

    python scripts/make_clips.py

Speech comes from eSpeak NG (`apt install espeak-ng` or `brew install espeak-ng`; the clips in the repository
are from version 1.51), everything else from NumPy. The same versions give the same samples again.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, lfilter, resample_poly, sosfilt

Wave = NDArray[np.float64]  # [T], or [T, 2] for stereo
Recipe = Callable[[int], Wave]  # from a sample rate to the samples

CLIPS = Path(__file__).resolve().parents[1] / "codeczoo" / "data" / "clips"
PEAK = 10 ** (-3 / 20)  # -3 dBFS
NOISE_FLOOR = 10 ** (-72 / 20)  # RMS of a quiet room: a recording is never digitally silent


@dataclass(frozen=True)
class Clip:
    """One clip: what the manifest says of it, and how it is made, given the sample rate."""

    id: str
    sample_rate: int
    category: str
    language: str
    description: str
    make: Recipe


# -- the clips --------------------------------------------------------------------------------------


def all_clips() -> list[Clip]:
    """Every embedded clip, in the manifest's order."""
    # fmt: off
    return [
        Clip("speech_en_female_16k", 16_000, "speech", "en", "British English, female voice, a sentence",
             spoken("en-gb-x-rp+f2", "The harbour lights went out one by one, and then the fog came in.")),
        Clip("speech_en_male_24k", 24_000, "speech", "en", "American English, male voice, two phrases",
             spoken("en-us+m3", "Who left the window open? It was raining all night long.", pitch=38)),
        Clip("speech_de_female_22k", 22_050, "speech", "de", "German, female voice, quick",
             spoken("de+f4", "Am Abend wurde es still, nur der Wind sang in den Bäumen.", speed=170)),
        Clip("speech_fr_male_8k", 8_000, "speech", "fr", "French, male voice, at the telephone's rate",
             spoken("fr+m1", "Demain matin, nous irons au marché acheter du pain et des pommes.")),
        Clip("speech_zh_female_48k", 48_000, "speech", "zh", "Mandarin, female voice; empty above 11 kHz",
             spoken("cmn-latn-pinyin+f3", "jin1tian1 tian1qi4 hen3 hao3, wo3men5 qu4 gong1yuan2 ba5.")),
        Clip("speech_es_word_16k", 16_000, "speech", "es", "Spanish, male voice, one word of 0.4 s",
             spoken("es+m2", "¡Hola!", pitch=60)),
        Clip("music_band_stereo_44k", 44_100, "music", "", "Plucked chords, bass and drums, wide", band),
        Clip("music_organ_mono_44k", 44_100, "music", "", "Four chords of an organ with vibrato", organ),
        Clip("music_pluck_mono_32k", 32_000, "music", "", "One plucked string, cut off after 0.4 s",
             lambda rate: pluck(196.0, 0.4, rate, seed=31)),
        Clip("audio_talk_over_music_stereo_48k", 48_000, "audio", "en", "Speech, and music around it",
             talk_over_music),
        Clip("audio_wind_mono_16k", 16_000, "audio", "", "Wind: pink noise in gusts", wind),
        Clip("audio_footsteps_stereo_24k", 24_000, "audio", "", "Footsteps left to right in a hall",
             footsteps),
        Clip("audio_silence_mono_24k", 24_000, "audio", "", "Digital silence", lambda rate: np.zeros(rate)),
    ]
    # fmt: on


# -- speech -----------------------------------------------------------------------------------------


def spoken(voice: str, text: str, *, speed: int = 155, pitch: int = 50) -> Recipe:
    """`text` in one of eSpeak NG's voices, `speed` in words a minute, over the noise of a quiet room."""

    def make(rate: int) -> Wave:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "speech.wav"
            command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-w", str(path), text]
            subprocess.run(command, check=True)
            wave, native_rate = soundfile.read(path, dtype="float64")
        wave = resample_poly(trimmed(wave, native_rate), rate, native_rate)
        noise = np.random.default_rng(len(text)).standard_normal(len(wave))
        return wave / np.abs(wave).max() + NOISE_FLOOR * noise

    return make


def trimmed(wave: Wave, rate: int, margin: float = 0.05) -> Wave:
    """Without the silence at both ends, but for `margin` seconds."""
    heard = np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max())
    start, stop = heard[0] - round(margin * rate), heard[-1] + round(margin * rate)
    return wave[max(start, 0) : stop]


# -- music ------------------------------------------------------------------------------------------

DRAWBARS = ((0.5, 0.5), (1, 1.0), (1.5, 0.3), (2, 0.6), (3, 0.3), (4, 0.3), (8, 0.2))  # harmonic, level
CHORDS = ((57, 60, 64), (53, 57, 60), (48, 52, 55), (55, 59, 62))  # A minor, F, C, G as MIDI notes


def hertz(note: float) -> float:
    return 440.0 * 2 ** ((note - 69) / 12)


def pluck(frequency: float, seconds: float, rate: int, seed: int) -> Wave:
    """A plucked string [T] (Karplus and Strong 1983): noise goes round a delay line with a mild low-pass."""
    period = round(rate / frequency)
    burst = np.zeros(round(seconds * rate))
    burst[:period] = np.random.default_rng(seed).uniform(-1, 1, period)
    loop = np.zeros(period + 2)
    loop[0], loop[period], loop[period + 1] = 1.0, -0.498, -0.498
    return lfilter([1.0], loop, burst)


def place(canvas: Wave, sound: Wave, start: float, rate: int, gain: float = 1.0) -> None:
    """Add `sound` to `canvas` from `start` seconds on, cut off at the canvas' end."""
    first = round(start * rate)
    length = max(0, min(len(sound), len(canvas) - first))
    canvas[first : first + length] += gain * sound[:length]


def panned(wave: Wave, position: float) -> Wave:
    """Mono to stereo [T, 2] at constant power; `position` from -1 (left) to 1 (right)."""
    angle = (position + 1) * np.pi / 4
    return np.stack([wave * np.cos(angle), wave * np.sin(angle)], axis=-1)


def kick(rate: int) -> Wave:
    time = np.arange(round(0.25 * rate)) / rate
    return np.sin(2 * np.pi * (50 * time - 6 * np.exp(-time / 0.02) * 0.25)) * np.exp(-time / 0.07)


def hat(rate: int, seed: int) -> Wave:
    time = np.arange(round(0.08 * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(time))
    highpass = butter(4, 6000, "highpass", fs=rate, output="sos")
    return sosfilt(highpass, noise) * np.exp(-time / 0.015)


def band(rate: int, seconds: float = 3.2) -> Wave:
    """Chords broken over both channels, a bass in the middle, drums: four bars of 0.8 s."""
    mix = np.zeros((round(seconds * rate), 2))
    for bar, chord in enumerate(CHORDS):
        start = 0.8 * bar
        place(mix, panned(pluck(hertz(chord[0] - 24), 0.8, rate, seed=bar), 0.0), start, rate, 0.8)
        for step, note in enumerate((*chord, chord[1] + 12)):
            string = pluck(hertz(note + 12), 1.0, rate, seed=10 + 4 * bar + step)
            place(mix, panned(string, (-0.8, 0.8, -0.4, 0.5)[step]), start + 0.2 * step, rate, 0.5)
        for beat in range(2):
            place(mix, panned(kick(rate), 0.0), start + 0.4 * beat, rate, 0.7)
            place(mix, panned(hat(rate, seed=50 + 2 * bar + beat), 0.3), start + 0.4 * beat + 0.2, rate, 0.12)
    return mix


def organ(rate: int, seconds: float = 3.0) -> Wave:
    """Chords of seven drawbars a note, with a 5.5 Hz vibrato and a key click."""
    mix = np.zeros(round(seconds * rate))
    length = seconds / len(CHORDS)
    time = np.arange(round(length * rate)) / rate
    envelope = np.minimum(1, np.minimum(time / 0.005, (length - time) / 0.03))
    for bar, chord in enumerate(CHORDS):
        phase = 2 * np.pi * (time + 3e-4 * np.sin(2 * np.pi * 5.5 * time) / 5.5)
        for note in chord:
            tone = sum(level * np.sin(phase * hertz(note) * harmonic + note) for harmonic, level in DRAWBARS)
            place(mix, tone * envelope, length * bar, rate)
    return mix


# -- other sounds -----------------------------------------------------------------------------------


def talk_over_music(rate: int) -> Wave:
    speech = spoken("en-gb-scotland+m7", "And that was the news. Good night.", speed=165)(rate)
    music = band(rate, seconds=min(len(speech) / rate, 3.2))
    speech = panned(speech[: len(music)], -0.3)
    return speech / np.abs(speech).max() + 0.35 * music[: len(speech)] / np.abs(music).max()


def wind(rate: int, seconds: float = 2.0) -> Wave:
    """Noise whose power falls with frequency, louder and brighter in two gusts."""
    generator = np.random.default_rng(7)
    length = round(seconds * rate)
    spectrum = np.fft.rfft(generator.standard_normal(length))
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 20)), length)
    gusts = 0.3 + 0.7 * np.sin(np.pi * np.arange(length) / rate) ** 2
    return pink * gusts


def footsteps(rate: int, seconds: float = 2.2) -> Wave:
    """Five steps, each a heel and a sole, that walk from left to right; then the hall's echo."""
    generator = np.random.default_rng(11)
    dry = np.zeros((round(seconds * rate), 2))
    time = np.arange(round(0.12 * rate)) / rate
    lowpass = butter(2, 1800, "lowpass", fs=rate, output="sos")
    for step in range(5):
        for delay, gain in ((0.0, 1.0), (0.07, 0.6)):
            thud = sosfilt(lowpass, generator.standard_normal(len(time))) * np.exp(-time / 0.012)
            place(dry, panned(thud, -0.8 + 0.4 * step), 0.05 + 0.38 * step + delay, rate, gain)
    time = np.arange(round(0.5 * rate)) / rate
    hall = generator.standard_normal((len(time), 2)) * np.exp(-time / 0.1)[:, None]
    wet = fftconvolve(dry, hall, axes=0)[: len(dry)]
    return dry / np.abs(dry).max() + 0.15 * wet / np.abs(wet).max()


# -- writing ----------------------------------------------------------------------------------------


def finished(wave: Wave, rate: int, fade: float = 0.01) -> NDArray[np.int16]:
    """Faded in and out over `fade` seconds, peak at -3 dBFS, rounded to 16 bits."""
    length = round(fade * rate)
    ramp = np.sin(np.linspace(0, np.pi / 2, length)) ** 2
    window = np.ones(len(wave))
    window[:length], window[-length:] = ramp, ramp[::-1]
    wave = wave * (window if wave.ndim == 1 else window[:, None])
    peak = np.abs(wave).max()
    if peak > 0:
        wave = wave * (PEAK / peak)
    return np.round(wave * 32767).astype(np.int16)


def write_clips(folder: Path) -> None:
    """Write every clip as FLAC, and the manifest `clips.csv`, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = all_clips()
    for clip in clips:
        samples = finished(clip.make(clip.sample_rate), clip.sample_rate)
        path = folder / f"{clip.id}.flac"
        soundfile.write(path, samples, clip.sample_rate, "PCM_16", compression_level=1.0)
        print(f"{clip.id}: {len(samples) / clip.sample_rate:.2f} s")
    with (folder / "clips.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "path", "category", "language", "description"])
        writer.writerows([c.id, f"{c.id}.flac", c.category, c.language, c.description] for c in clips)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the embedded clips and their manifest.")
    parser.add_argument("--out", type=Path, default=CLIPS, help="folder to write to (default: %(default)s)")
    arguments = parser.parse_args()
    if shutil.which("espeak-ng") is None:
        parser.error("espeak-ng is needed for the speech: apt install espeak-ng, or brew install espeak-ng")
    write_clips(arguments.out)


if __name__ == "__main__":
    main()
