"""`wer`, `cer`, `dwer`, `dcer`: small Whispers and CTC networks through the real hub client; counts and normalisers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from codeczoo import metrics
from codeczoo.metrics import error_rates as rates
from codeczoo.metrics import judged
from codeczoo.metrics.error_rates import corpus_rate, edit_counts
from codeczoo.metrics.networks import transcriber as networks
from codeczoo.metrics.networks.recogniser import HUBERT, WHISPER, Recogniser
from codeczoo.metrics.networks.transcriber import normaliser, transcriber
from tests.support.metric_cases import recording
from tests.support.small_asr import save_ctc, save_whisper

pytest.importorskip("transformers")
pytest.importorskip("jiwer")
SPEECH = "audio/s_en_16k.flac"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    return Recogniser(str(save_whisper(tmp_path_factory.mktemp("whisper"))))


@pytest.fixture(scope="module")
def ctc(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    return Recogniser(str(save_ctc(tmp_path_factory.mktemp("ctc"))))


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_memory", judged.Memory())


def ragged() -> tuple[list[Tensor], list[Tensor]]:
    speech = recording(SPEECH).float()
    clips = [speech, speech[:, 8000:41000], speech[:, :3000], torch.cat([speech] * 2, dim=-1)]
    noise = torch.Generator().manual_seed(0)
    return clips, [clip + 0.05 * torch.randn(clip.shape, generator=noise) for clip in clips]


# -- counts and normalisers: golden values ------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "hypothesis", "characters", "counts"),
    [
        ("a b c", "a c", False, (2, 0, 1, 0)),
        ("abc", "ab", True, (2, 0, 1, 0)),
        ("a", "", False, (0, 0, 1, 0)),
        ("", "a b", False, (0, 0, 0, 2)),  # jiwer 4 says 1 of nothing
        ("", "ab c", True, (0, 0, 0, 4)),
        ("", "", False, (0, 0, 0, 0)),
        ("a b", "a b", True, (3, 0, 0, 0)),  # a space is a character
        ("d", "d e", False, (1, 0, 0, 1)),
    ],
)
def test_edits_are_counted(reference: str, hypothesis: str, characters: bool, counts: tuple[int, ...]) -> None:
    assert tuple(edit_counts(reference, hypothesis, characters=characters).values()) == counts


def test_the_rate_of_a_set_is_its_errors_over_its_words() -> None:
    details = [edit_counts("a b c", "a c"), None, edit_counts("d", "d e")]
    assert corpus_rate(details) == 0.5  # 2 errors, 4 words; the mean over clips is 2/3
    assert corpus_rate([*details, edit_counts("", "x")]) == 0.75, "insertions count where nothing is said"
    assert corpus_rate([None]) is None and corpus_rate([edit_counts("", "")]) is None


ODD = "Mr. Smith won't pay $20 for twenty-one colours, [noise] um (cough) okay!"


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("english", ODD, "mister smith will not pay $20 for 21 colors okay"),
        ("english", "It's HIS 2nd café", "it is his 2nd cafe"),
        ("basic", ODD, "mr smith won t pay 20 for twenty one colours um okay"),
        ("basic", "It's HIS 2nd café", "it s his 2nd café"),
        ("case", " IT'S  his\n", "it's his"),
    ],
)
def test_normalisers_are_the_published_ones(kind: str, text: str, expected: str) -> None:
    assert normaliser(kind, {"colours": "colors"})(text) == expected


# -- networks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["whisper", "ctc"])
def test_a_ragged_batch_is_recognised_as_alone(kind: str, request: pytest.FixtureRequest) -> None:
    recogniser = request.getfixturevalue(kind)
    clips, noisy = ragged()
    texts = ["a bad cab", "bed", None, "a"]
    names = ["wer", "cer", "dwer", "dcer"]
    together = metrics.evaluate(clips, noisy, 16000, names, transcripts=texts, recogniser=recogniser)
    heard = set()
    for i in (1, 2) if kind == "whisper" else range(4):
        clip, estimate = clips[i], noisy[i]
        rates._memory = judged.Memory()
        alone = metrics.evaluate([clip], [estimate], 16000, names, transcripts=[texts[i]], recogniser=recogniser)
        for name in names:
            details = together.results[name].details, alone.results[name].details
            assert details[0] is not None and details[1] is not None and details[0][i] == details[1][0]
            assert together.reasons[name][i] == alone.reasons[name][0]
            assert float(together[name][i]) == pytest.approx(float(alone[name][0]), abs=0, nan_ok=True)
        heard.add(str(together.to_dict()["details"]["dwer"][i]))
    assert together.reasons["wer"] == [None, None, "no_transcript", None]
    assert len(heard) > 1, "a network that says the same of everything shows nothing"


def test_the_value_is_what_jiwer_says_of_what_the_model_writes(whisper: Recogniser) -> None:
    import jiwer

    (clip, *_), (estimate, *_) = ragged()
    loaded = transcriber(whisper, CPU)
    ((written, _),) = loaded([estimate[0]])
    text = "A bad cab, fed a bead!"
    scores = metrics.evaluate(clip, estimate, 16000, ["wer", "cer"], transcripts=[text], recogniser=whisper)
    sides = loaded.normalise(text), loaded.normalise(written or "")
    assert float(scores["wer"]) == jiwer.wer(*sides) and float(scores["cer"]) == jiwer.cer(*sides)
    assert scores.summary()["wer"].corpus == pytest.approx(jiwer.wer(*sides))
    assert json.loads(json.dumps(scores.to_dict()))["details"]["wer"][0]["reference"] == "a bad cab fed a bead"
    alone = metrics.wer(clip[None], estimate[None], 16000, transcripts=[text], recogniser=whisper)
    assert float(alone.values) == float(scores["wer"])


def test_long_clips_are_heard_to_their_end_or_undefined(tmp_path: Path, whisper: Recogniser) -> None:
    """Beyond 30 s a Whisper goes from timestamp to timestamp; one without timestamps has no value."""
    speech = recording(SPEECH).float()
    long = torch.cat([speech] * 10, dim=-1)[:, : 34 * 16000]
    other = long.clone()
    other[:, 31 * 16000 :] = torch.randn(3 * 16000, generator=torch.Generator().manual_seed(0))
    (whole, _), (changed, _), (short, _) = transcriber(whisper, CPU)([long[0], other[0], speech[0]])
    assert whole and changed and short and whole != changed, "what lies behind 30 s is heard"
    blunt = Recogniser(str(save_whisper(tmp_path, timestamps=False)))
    scores = metrics.evaluate([long, speech], [long, speech], 16000, "dwer", recogniser=blunt)
    assert scores.reasons["dwer"] == ["too_long", None] and math.isnan(scores["dwer"][0])


def test_originals_are_recognised_once(whisper: Recogniser) -> None:
    seen: list[int] = []
    model = transcriber(whisper, CPU).model
    before = model.model.encoder.register_forward_pre_hook(lambda _, args, kwargs: seen.append(1), with_kwargs=True)
    speech = recording(SPEECH).float()[None]
    try:
        for gain in (0.9, 0.5):
            metrics.evaluate(speech, gain * speech, 16000, ["dwer", "dcer"], recogniser=whisper)
    finally:
        before.remove()
    assert len(seen) == 3, "two estimates and one original"


def test_nothing_is_recognised_that_no_metric_needs(whisper: Recogniser) -> None:
    speech = recording(SPEECH).float()
    clips = [speech, speech[:, :20000]]
    seen: list[int] = []
    encoder = transcriber(whisper, CPU).model.model.encoder
    before = encoder.register_forward_pre_hook(lambda _, args, kwargs: seen.append(1), with_kwargs=True)
    try:
        scores = metrics.evaluate(clips, clips, 16000, "wer", recogniser=whisper)
        assert scores.reasons["wer"] == ["no_transcript"] * 2 and not seen
        scores = metrics.evaluate(clips, clips, 16000, "wer", transcripts=[None, "a"], recogniser=whisper)
        assert scores.reasons["wer"] == ["no_transcript", None] and len(seen) == 1
    finally:
        before.remove()


def test_what_is_undefined_has_a_reason(whisper: Recogniser, ctc: Recogniser) -> None:
    speech = recording(SPEECH).float()
    broken = speech.clone()
    broken[0, 100] = torch.nan
    estimates = [torch.zeros_like(speech), broken, speech, speech]
    scores = metrics.evaluate(
        [speech] * 4, estimates, 16000, ["wer", "dwer"], transcripts=["a bad cab", "a", "?!", None], recogniser=whisper
    )
    assert scores.reasons["wer"] == [None, "non_finite", "empty_reference", "no_transcript"]
    assert float(scores["wer"][0]) == 1, "nothing is said in silence"
    assert scores.reasons["dwer"] == [None, "non_finite", None, None] and float(scores["dwer"][2]) == 0
    details = scores.results["wer"].details
    assert details is not None and details[2] is not None and details[2]["insertions"] > 0
    summary = scores.summary()["wer"]
    assert summary.corpus == pytest.approx((3 + details[2]["insertions"]) / 3)
    quiet = metrics.evaluate([0 * speech], [speech], 16000, "dwer", recogniser=whisper)
    assert quiet.reasons["dwer"] == ["empty_reference"]
    short = speech[:, :300]
    assert metrics.evaluate(short, short, 16000, "dwer", recogniser=ctc).reasons["dwer"] == ["too_short"]


def test_facts_name_the_model_and_how_it_was_asked(whisper: Recogniser, ctc: Recogniser) -> None:
    facts = transcriber(whisper, CPU).facts
    assert facts["model"] == whisper.model and len(facts["sha256"]) == 64
    assert (facts["language"], facts["normaliser"], facts["spellings"]) == ("en", "english", 1)
    assert facts["versions"]["jiwer"].startswith("4.")
    assert transcriber(ctc, CPU).facts["normaliser"] == "case" and transcriber(ctc, CPU).facts["language"] is None
    german = transcriber(Recogniser(whisper.model, language="de"), CPU)
    assert (german.facts["language"], german.facts["normaliser"]) == ("de", "basic")


def test_recognisers_by_name() -> None:
    assert Recogniser().model == WHISPER and len(Recogniser().revision or "") == 40
    assert Recogniser.parse(None) is None
    assert Recogniser.parse(HUBERT) == Recogniser(HUBERT) and len(Recogniser(HUBERT).revision or "") == 40
    assert Recogniser.parse("a/b@c", "de") == Recogniser("a/b", "c", "de")
    with pytest.raises(ValueError, match="no normaliser 'none'; there are: english, basic, case"):
        Recogniser(normaliser="none")
    with pytest.raises(ValueError, match="model of a recogniser must be a text; it is ''"):
        Recogniser("")


def test_bad_input_is_named(whisper: Recogniser, tmp_path: Path) -> None:
    speech = recording(SPEECH).float()[None]
    with pytest.raises(ValueError, match=r"transcripts must be 1, one for each clip; there are 2"):
        metrics.evaluate(speech, speech, 16000, "wer", transcripts=["a", "b"], recogniser=whisper)
    with pytest.raises(TypeError, match="transcripts must be a text or None for each clip; they are 'a'"):
        metrics.evaluate(speech, speech, 16000, "wer", transcripts="a", recogniser=whisper)
    with pytest.raises(ValueError, match="knows no language 'xx'; it knows: de, en"):
        metrics.evaluate(speech, speech, 16000, "dwer", recogniser=Recogniser(whisper.model, language="xx"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    with pytest.raises(ValueError, match=r"neither a Whisper nor a CTC network, but bert \(BertModel\)"):
        metrics.evaluate(speech, speech, 16000, "dwer", recogniser=Recogniser(str(tmp_path)))


def test_a_model_that_cannot_be_had_is_nan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    speech = torch.cat([recording(SPEECH).float()[None]] * 2)
    speech[1, 0, 7] = torch.inf
    for recogniser in (Recogniser(str(tmp_path / "absent")), Recogniser("nobody/nothing-of-the-kind")):
        scores = metrics.evaluate(speech, speech, 16000, ["wer", "snr"], transcripts=["a", "b"], recogniser=recogniser)
        assert scores.reasons["wer"] == ["no_model", "non_finite"] and scores.reasons["snr"][0] is None
    networks.forget()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    scores = metrics.evaluate(speech, speech, 16000, "dwer")
    assert scores.reasons["dwer"] == ["not_installed", "non_finite"]


def test_through_the_hub(tmp_path: Path) -> None:
    """The real client of transformers, from a repository at a commit."""
    from tests.metrics.test_networks import run_in_fresh_python
    from tests.support.hub_server import HubServer

    folder = save_whisper(tmp_path / "model")
    code = (
        "import torch\n"
        "from codeczoo.metrics.networks.transcriber import transcriber\n"
        "from codeczoo.metrics.networks.recogniser import Recogniser\n"
        "loaded = transcriber(Recogniser('someone/whisper', {commit!r}), torch.device('cpu'))\n"
        "print(loaded.facts['commit'], loaded.facts['revision'], loaded.facts['spellings'])\n"
    )
    with HubServer() as hub:
        commit = hub.add("someone/whisper", {path.name: path.read_bytes() for path in folder.iterdir()})
        environment: dict[str, Any] = hub.environment(tmp_path / "home")
        done = run_in_fresh_python(code.format(commit=commit), environment)
        assert done.split() == [commit, commit, "1"]
