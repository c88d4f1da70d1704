"""UniCodec through the repository that repairs its imports."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor

from codeczoo import Codes
from perf.published.interface import Case, Given, Published, loaded, on_path

SETTINGS = "configs/unicodec_frame75_10s_nq1_code16384_dim512_finetune.yaml"
SPEECH = "0"


def unicodec(given: Given) -> Published:
    checkout = on_path(given.checkout)
    kind = importlib.import_module("unicodec.decoder.pretrained").Unicodec
    model = kind.from_hparams0802(str(checkout / SETTINGS))
    # The manifest does not give the window's values: it is the one that the class computes.
    model = loaded(model, {**given.state, "head.istft.window": model.head.istft.window}).to(given.codec.device)
    bandwidth = torch.tensor([0], device=given.codec.device)
    vq = model.feature_extractor.encodec.quantizer.vq

    @torch.inference_mode()
    def features(codes: Codes) -> Tensor:
        """What its decoder wants: it has no way from codes to these."""
        return vq.embedding_proj(vq.embedding.weight)[codes.codes[:, 0]].transpose(1, 2)

    return Published(
        encode=lambda x: model.encode_infer(x[:, 0], [SPEECH] * len(x), bandwidth_id=bandwidth)[1],
        to_ours=lambda codes: codes.reshape(-1, 1, codes.shape[-1]),
        decode=lambda x: model.decode(x, bandwidth_id=bandwidth),
        from_ours=features,
    )


CASES = (Case("unicodec_24k", "unicodec_24k", "UniCodec-fix", unicodec, repository="mesolitica/UniCodec-fix"),)
