"""Make tests/golden/metrics/ecapa.safetensors: SpeechBrain's ECAPA-TDNN, narrow and with random weights.

    pip install --no-deps speechbrain hyperpyyaml ruamel.yaml joblib sentencepiece    (in an environment of its own)
    python scripts/make_ecapa_case.py

The file holds the state dict under SpeechBrain's names, two clips at 16 kHz, the features of the first, and the
embeddings that SpeechBrain gives each clip alone, in float64.
"""

from __future__ import annotations

from pathlib import Path

import soundfile as sf
import torch
from safetensors.torch import save_file
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.processing.features import InputNormalization

METRICS = Path(__file__).parent.parent / "tests" / "golden" / "metrics"
CHANNELS, ATTENTION, HIDDEN, EMBEDDING = 16, 8, 8, 12


def main() -> None:
    torch.manual_seed(0)
    channels = [CHANNELS] * 4 + [3 * CHANNELS]
    model = ECAPA_TDNN(80, lin_neurons=EMBEDDING, channels=channels, attention_channels=ATTENTION, se_channels=HIDDEN)
    for name, value in model.state_dict().items():  # as after training: no statistic is 0 or 1
        if name.endswith("running_mean"):
            value.normal_(0, 0.3)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif "norm.norm" in name and name.endswith("weight"):
            value.uniform_(0.5, 1.5)
        elif "norm.norm" in name and name.endswith("bias"):
            value.normal_(0, 0.2)
    tensors = {f"state.{name}": value.clone() for name, value in model.state_dict().items()}
    model = model.double().eval()
    features = Fbank(n_mels=80, left_frames=0, right_frames=0)
    normalise = InputNormalization(norm_type="sentence", std_norm=False)
    clips = [("a", "s_en_16k.flac", 0, 24000), ("b", "s_zh_16k.flac", 8000, 14567)]
    with torch.no_grad():
        for name, file, first, count in clips:
            samples, rate = sf.read(METRICS / "audio" / file, dtype="float32")
            assert rate == 16000
            clip = torch.from_numpy(samples[first : first + count])[None]
            mel = normalise(features(clip), torch.ones(1))
            tensors[f"audio_{name}"] = clip[0]
            tensors[f"embedding_{name}"] = model(mel.double(), torch.ones(1)).flatten()
            if name == "a":
                tensors["features_a"] = mel[0, :20].clone()
    save_file(tensors, METRICS / "ecapa.safetensors", {"made_by": "scripts/make_ecapa_case.py, speechbrain 1.1.2"})


if __name__ == "__main__":
    main()
