"""`Recogniser`: which network recognises speech, in which language, and how texts are normalised before they are
compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

WHISPER, HUBERT = "openai/whisper-large-v3", "facebook/hubert-large-ls960-ft"

# The commits that public scripts pin; of models that are not listed, the newest one is taken. Either is in the results.
REVISIONS: Mapping[str, str] = {
    WHISPER: "06f233fe06e710322aca913c1bc4249a0d71fce1",
    HUBERT: "ece5fabbf034c1073acae96d5401b25be96709d8",
}
NORMALISERS = ("english", "basic", "case")


@dataclass(frozen=True)
class Recogniser:
    """How `wer`, `cer`, `dwer` and `dcer` recognise speech. Values of different recognisers do not compare.

    Attributes:
        model: of the hub, or a folder: a Whisper, or a network trained with CTC, as transformers save them. Papers on
            codecs with LibriSpeech take `facebook/hubert-large-ls960-ft`.
        revision: of the hub's repository; None = the one that is pinned here, or the newest.
        language: its code, for Whisper. A CTC network knows one only.
        normaliser: `english` = Whisper's own for English (numbers, contractions, British spelling), `basic` = Whisper's
            for other languages (case, punctuation, symbols), `case` = lower case and single spaces; None = `english`
            for Whisper in English, `basic` for Whisper in other languages, `case` for CTC.
    """

    model: str = WHISPER
    revision: str | None = None
    language: str = "en"
    normaliser: str | None = None

    def __post_init__(self) -> None:
        for name in ("model", "language"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"{name} of a recogniser must be a text; it is {value!r}")
        if self.normaliser is not None and self.normaliser not in NORMALISERS:
            raise ValueError(f"there is no normaliser {self.normaliser!r}; there are: {', '.join(NORMALISERS)}")
        if self.revision is None and self.model in REVISIONS:
            object.__setattr__(self, "revision", REVISIONS[self.model])

    @classmethod
    def parse(cls, text: str | None, language: str | None = None) -> Self | None:
        """From `MODEL` or `MODEL@REVISION`, as a command line gives it; None where neither is given."""
        if text is None and language is None:
            return None
        model, _, revision = (text or WHISPER).partition("@")
        return cls(model, revision or None, language or "en")
