"""Make tests/golden/ecdc: what EnCodec's published package writes when its language model is on.

    pip download encodec==0.1.1 --no-deps && tar xzf encodec-0.1.1.tar.gz
    OMP_NUM_THREADS=1 PYTHONPATH=. python scripts/make_ecdc_cases.py encodec-0.1.1

The published weights are not needed: weights are made of names (tests/support/language_model.py) and not stored. The
networks have 2 codebooks and see 12 frames; else they are as published. Codes are now the most probable one, now any.

    sharp.ecdc, sharp_48k.ecdc   every probability is 0 or 1: every machine reads and writes them alike
    natural.ecdc                 probabilities as a trained model may give them; the tensor `probabilities` holds some
                                 of them, the metadata the sha256 of all
    coder.bin                    the arithmetic coder alone
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from tests.support.golden_weights import noise
from tests.support.language_model import GOLDEN_NETWORK, HEADS, coder_case, values_of

HERE = Path(__file__).resolve().parents[1] / "tests" / "golden" / "ecdc"
CASES = {"natural": (24, 30 * 320 - 7), "sharp": (24, 30 * 320 - 7), "sharp_48k": (48, 47521)}
KEPT = 4  # frames whose probabilities are stored
LEAST_GAP = 60.0  # of sharp logits: e^-60 is 0 in any rounding


def load_package(folder: str) -> types.SimpleNamespace:
    sys.path.insert(0, folder)
    sys.modules["torchaudio"] = types.ModuleType("torchaudio")  # imported, and not used here
    names = {"compress": "encodec.compress", "model": "encodec.model", "ac": "encodec.quantization.ac"}
    return types.SimpleNamespace(**{name: importlib.import_module(path) for name, path in names.items()})


def network(package: types.SimpleNamespace, heads: float) -> Any:
    lm = package.model.LMModel(
        GOLDEN_NETWORK["num_codebooks"], 1024, num_layers=5, dim=200, past_context=GOLDEN_NETWORK["past"]
    ).eval()
    lm.load_state_dict({key: values_of(key, tensor.shape, heads) for key, tensor in lm.state_dict().items()})
    return lm


@torch.no_grad()
def choose_codes(lm: Any, frames: int, name: str, sharp: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes [1, K, N], and the probabilities [N, K, 1024]."""
    k = GOLDEN_NETWORK["num_codebooks"]
    entries, states, offset, codes, seen = torch.zeros(1, k, 1, dtype=torch.long), None, 0, [], []
    for t in range(frames):
        probabilities, states, offset = lm(entries, states, offset)
        seen.append(probabilities[0, :, :, 0].T.contiguous())
        if sharp:
            top = seen[-1].double().log().nan_to_num(neginf=-1e9).sort(-1).values
            assert bool((top[:, -1] - top[:, -2] > LEAST_GAP).all()), f"{name}: frame {t} is not sharp"
        dice = noise(f"ecdc/{name}/{t}", 2 * k)
        row = [int(seen[-1][i].argmax()) if dice[i] < 0 else int((dice[k + i] + 1) / 2 * 1024) for i in range(k)]
        codes.append(torch.tensor(row))
        entries = 1 + codes[-1].view(1, k, 1)
    return torch.stack(codes, -1)[None], torch.stack(seen)


def make(package: types.SimpleNamespace, name: str) -> None:
    rate, samples = CASES[name]
    lm = network(package, HEADS[name.partition("_")[0]])
    stereo = rate == 48
    segments = [min(48000, samples - start) for start in range(0, samples, 47520)] if stereo else [samples]
    frames, scales, chosen = [], [], []
    for i, size in enumerate(segments):
        codes, probabilities = choose_codes(lm, -(-size // 320), f"{name}/{i}", name != "natural")
        chosen.append(probabilities)
        scales.append(0.1 * (i + 1))
        frames.append((codes, torch.tensor([[scales[-1]]]) if stereo else None))
    codec = package.model.EncodecModel._get_model(
        [24.0], rate * 1000, 2 if stereo else 1, not stereo, "time_group_norm" if stereo else "weight_norm", stereo,
        1.0 if stereo else None, f"encodec_{rate}khz",
    )  # fmt: skip
    codec.get_lm_model, codec.encode = lambda: lm, lambda x: frames
    data = package.compress.compress(codec, torch.zeros(2 if stereo else 1, samples), use_lm=True)
    heard: list[Any] = []

    def keep(found: list[Any]) -> torch.Tensor:
        heard.extend(found)
        return torch.zeros(1, 1, 1)

    codec.decode = keep
    package.compress.MODELS[codec.name] = lambda: codec
    package.compress.decompress(data)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(heard, frames, strict=True)), "it does not read itself"
    (HERE / f"{name}.ecdc").write_bytes(data)
    tensors = {"codes": torch.cat([codes for codes, _ in frames], -1).to(torch.int16)}
    facts = {"samples": str(samples), "torch": torch.__version__}
    if stereo:
        tensors["scale"] = torch.tensor([scales])
    if name == "natural":
        tensors["probabilities"] = chosen[0][:KEPT].clone()
        facts["sha256"] = hashlib.sha256(chosen[0].numpy().tobytes()).hexdigest()
    save_file(tensors, HERE / f"{name}.safetensors", facts)


def make_coder_case(package: types.SimpleNamespace) -> None:
    file = io.BytesIO()
    coder = package.ac.ArithmeticCoder(file)
    for probabilities, symbol in coder_case():
        coder.push(symbol, package.ac.build_stable_quantized_cdf(torch.from_numpy(probabilities), 24))
    coder.flush()
    (HERE / "coder.bin").write_bytes(file.getvalue())


def make_layout(package: types.SimpleNamespace) -> None:
    """The keys and shapes of the published checkpoints, and how far they see."""
    layout = {}
    for name in ("encodec_24k", "encodec_48k"):
        count, rate = (32, 75) if name == "encodec_24k" else (16, 150)
        lm = package.model.LMModel(count, 1024, num_layers=5, dim=200, past_context=int(3.5 * rate))
        shapes = {key: list(tensor.shape) for key, tensor in lm.state_dict().items()}
        layout[name] = {"past": lm.transformer.past_context, "tensors": shapes}
    (HERE / "layout.json").write_text(json.dumps(layout) + "\n")


def main() -> None:
    torch.set_num_threads(1)
    HERE.mkdir(parents=True, exist_ok=True)
    package = load_package(sys.argv[1])
    for name in CASES:
        make(package, name)
    make_coder_case(package)
    make_layout(package)
    print({path.name: path.stat().st_size for path in HERE.iterdir()}, np.__version__)


if __name__ == "__main__":
    main()
