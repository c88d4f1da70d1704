"""Networks that write down what is said: Whisper and CTC networks, run by Hugging Face transformers.

Greedy, without fallback, in float32, so that a clip has one transcript. Whisper sees each clip of up to 30 s in 30 s of
its own, so a batch is exact; longer clips go one by one through the published algorithm, which moves a window from
timestamp to timestamp. CTC networks get an attention mask, and clips one by one where their norm counts padding.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor

from codeczoo.base.errors import first_line
from codeczoo.metrics.networks.models import NoModelError, NotInstalledError
from codeczoo.metrics.networks.recogniser import Recogniser
from codeczoo.weights.download import file_hash

RATE = 16000  # Hz
WHISPER_SECONDS = 30  # of a window
CTC_LONGEST = 120 * RATE  # samples: attention takes memory with the square of them
AT_ONCE = {"cuda": 16}  # clips, by kind of device
AT_ONCE_ELSEWHERE = 4
TOO_LONG, TOO_SHORT = "too_long", "too_short"
INSTALL = "pip install 'codeczoo[asr]'"

Written = tuple[str | None, str | None]  # what is said, or why that is not known


class Transcriber:
    """A recogniser that is loaded.

    Attributes:
        normalise: brings a text to the form that is compared.
        facts: what it is, in JSON's types.
    """

    def __init__(self, recogniser: Recogniser, model: Any, extractor: Any, tokenizer: Any) -> None:
        self.model, self.extractor, self.tokenizer = model, extractor, tokenizer
        self.is_whisper = model.config.model_type == "whisper"
        self.language = _language(recogniser, model.generation_config) if self.is_whisper else None
        in_english = "english" if recogniser.language == "en" else "basic"
        kind = recogniser.normaliser or (in_english if self.is_whisper else "case")
        spellings = getattr(tokenizer, "english_spelling_normalizer", None) or {}
        self.normalise = normaliser(kind, spellings)
        self.facts = {
            "model": recogniser.model,
            "revision": recogniser.revision,
            **_identity(recogniser),
            "language": recogniser.language if self.is_whisper else None,
            "normaliser": kind,
            **({"spellings": len(spellings)} if kind == "english" else {}),
            "decoding": "greedy",
            "versions": {name: importlib.metadata.version(name) for name in ("transformers", "jiwer")},
        }

    @torch.no_grad()
    def __call__(self, clips: Sequence[Tensor]) -> list[Written]:
        """What is said in clips [T] of float32 samples at 16 kHz."""
        written: list[Written] = [("", None)] * len(clips)
        together: list[int] = []
        for i, clip in enumerate(clips):
            if len(clip) < self._shortest:
                written[i] = (None, TOO_SHORT)
            elif len(clip) <= self._longest_together:
                together.append(i)
            else:
                written[i] = self._long(clip)
        together.sort(key=lambda i: len(clips[i]))
        step = AT_ONCE.get(self.model.device.type, AT_ONCE_ELSEWHERE) if self._may_batch else 1
        for start in range(0, len(together), step):
            chosen = together[start : start + step]
            for i, text in zip(chosen, self._batch([clips[i] for i in chosen]), strict=True):
                written[i] = (text, None)
        return written

    @property
    def _shortest(self) -> int:
        if self.is_whisper:
            return 1
        return next(n for n in range(1, 1 << 20) if int(self.model._get_feat_extract_output_lengths(n)) > 0)

    @property
    def _longest_together(self) -> int:
        return WHISPER_SECONDS * RATE if self.is_whisper else CTC_LONGEST

    @property
    def _may_batch(self) -> bool:
        config = self.model.config
        return self.is_whisper or (config.feat_extract_norm == "layer" and bool(self.extractor.return_attention_mask))

    def _batch(self, clips: Sequence[Tensor]) -> list[str]:
        arrays = [clip.float().cpu().numpy() for clip in clips]
        device = self.model.device
        if self.is_whisper:
            given = self.extractor(arrays, sampling_rate=RATE, return_tensors="pt", device=str(device))
            tokens = self.model.generate(
                given.input_features.to(device),
                return_timestamps=False,
                force_unique_generate_call=True,  # one pass, whatever the network writes
                **self._greedy,
            )
            return self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        given = self.extractor(arrays, sampling_rate=RATE, return_tensors="pt", padding=True).to(device)
        tokens = self.model(**given).logits.argmax(-1)
        frames = self.model._get_feat_extract_output_lengths(torch.tensor([len(array) for array in arrays])).tolist()
        return [self.tokenizer.decode(row[:end]) for row, end in zip(tokens, frames, strict=True)]

    def _long(self, clip: Tensor) -> Written:
        if not self.is_whisper or not hasattr(self.model.generation_config, "no_timestamps_token_id"):
            return None, TOO_LONG  # beyond a CTC network's limit, or a Whisper without timestamps
        device = self.model.device
        given = self.extractor(
            [clip.float().cpu().numpy()],
            sampling_rate=RATE,
            return_tensors="pt",
            device=str(device),
            truncation=False,
            padding="longest",
            return_attention_mask=True,
        ).to(device)
        tokens = self.model.generate(
            given.input_features, attention_mask=given.attention_mask, return_timestamps=True, **self._greedy
        )
        return self.tokenizer.batch_decode(tokens, skip_special_tokens=True)[0], None

    @property
    def _greedy(self) -> dict[str, Any]:
        asked = {"language": self.language, "task": "transcribe"} if self.language else {}
        return {"do_sample": False, "num_beams": 1, "temperature": 0.0, "condition_on_prev_tokens": False, **asked}


def transcriber(recogniser: Recogniser, device: torch.device) -> Transcriber:
    """A recogniser, loaded onto a device and kept.

    Raises:
        NoModelError: its files, transformers or jiwer are not there.
        ValueError: it recognises no speech, or not this language.
    """
    return _loaded(recogniser, device)


@functools.lru_cache(maxsize=2)
def _loaded(recogniser: Recogniser, device: torch.device) -> Transcriber:
    for package in ("transformers", "jiwer"):
        if importlib.util.find_spec(package) is None:
            raise NotInstalledError(f"speech recognition needs {package}: {INSTALL}")
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForCTC, AutoModelForSpeechSeq2Seq, AutoTokenizer

    name = recogniser.model
    kind: Any
    given: dict[str, Any] = {"revision": recogniser.revision, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(name, **given)
        if config.model_type == "whisper":
            kind = AutoModelForSpeechSeq2Seq
        elif any(architecture.endswith("ForCTC") for architecture in config.architectures or ()):
            kind = AutoModelForCTC
        else:
            raise ValueError(
                f"{name} is neither a Whisper nor a CTC network, but {config.model_type} "
                f"({', '.join(config.architectures or ['no architecture'])})"
            )
        extractor = AutoFeatureExtractor.from_pretrained(name, **given)
        tokenizer = AutoTokenizer.from_pretrained(name, **given)
        model = kind.from_pretrained(name, dtype=torch.float32, **given)
    except OSError as error:  # so transformers tells of what is not there, and of what cannot be had
        raise NoModelError(f"{name} cannot be had: {first_line(error)}") from error
    return Transcriber(recogniser, model.to(device).eval(), extractor, tokenizer)


def forget() -> None:
    """Let go of all that are loaded."""
    _loaded.cache_clear()


def normaliser(kind: str, spellings: dict[str, str]) -> Callable[[str], str]:
    """A function that brings texts to the form in which they are compared.

    Args:
        kind: of `NORMALISERS`.
        spellings: British to American, which `english` takes from the model's files.
    """
    if kind == "case":
        return lambda text: " ".join(text.lower().split())
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    change = EnglishTextNormalizer(spellings) if kind == "english" else BasicTextNormalizer()
    return lambda text: " ".join(change(text).split())


def _language(recogniser: Recogniser, settings: Any) -> str | None:
    """What Whisper is told of the language; None for a model that knows English only.

    Raises:
        ValueError: it does not know the language.
    """
    known = sorted(token.strip("<|>") for token in getattr(settings, "lang_to_id", None) or {"<|en|>": 0})
    if recogniser.language not in known:
        raise ValueError(f"{recogniser.model} knows no language {recogniser.language!r}; it knows: {', '.join(known)}")
    return recogniser.language if getattr(settings, "lang_to_id", None) else None


def _identity(recogniser: Recogniser) -> dict[str, str]:
    """Which weights they are: the hub's commit, or the hashes of a folder's files."""
    if Path(recogniser.model).is_dir():
        files = sorted(path for path in Path(recogniser.model).iterdir() if path.suffix in (".safetensors", ".bin"))
        return {"sha256": " ".join(file_hash(path) for path in files)}
    path = try_to_load_from_cache(recogniser.model, "config.json", revision=recogniser.revision)
    return {"commit": Path(path).parent.name} if isinstance(path, str) else {}
