"""Settings of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from codeczoo.executor.settings import WorkSettings
from codeczoo.metrics import Recogniser
from codeczoo.metrics.speaker_embedding import SPEAKER_NETWORKS


@dataclass(frozen=True, kw_only=True)
class Settings(WorkSettings):
    """A benchmark.

    Attributes:
        codecs: names; for a data set that holds reconstructions, names of those (none = all).
        metrics: names; none = those of the protocol.
        weights: codec → file, folder or "random".
        metric_workers: processes for the slow metrics; None = by the number of cores.
        asr: the recogniser of `wer` and its like, as MODEL or MODEL@REVISION; None = Whisper large v3.
        asr_language: the language of what is said, by its code; None = English.
        save_audio: number of clips, from the first, whose original and reconstructions are kept (-1 = all).
        trials: a trial list, for protocols with speaker verification: the audio of all clips is kept then.
        speaker_network: that judges the trials, of `SPEAKER_NETWORKS`.
    """

    codecs: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    protocol: str = "zoo"
    out: str = "results"
    weights: Mapping[str, str] = field(default_factory=dict)
    metric_workers: int | None = None
    save_audio: int = 0
    trials: str | None = None
    speaker_network: str = SPEAKER_NETWORKS[0]
    asr: str | None = None
    asr_language: str | None = None

    @property
    def recogniser(self) -> Recogniser:
        """By which speech is recognised.

        Raises:
            ValueError: an empty name.
        """
        return Recogniser.parse(self.asr, self.asr_language) or Recogniser()

    # `weights` are compared codec by codec, and by their content: `Results.check_weights`.
    FREE = WorkSettings.FREE | {"codecs", "metric_workers", "save_audio", "trials", "speaker_network"}
