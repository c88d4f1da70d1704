from __future__ import annotations

from torch import Tensor

from perf.published.interface import Case, Given, Published, loaded


def s3tokenizer(given: Given) -> Published:
    import s3tokenizer as package

    name = given.codec.name.removeprefix("s3tokenizer_")
    kind = {"v1": package.S3Tokenizer, "v2": package.S3TokenizerV2, "v3": package.S3TokenizerV3}[name[:2]]
    model = loaded(kind(f"speech_tokenizer_{name}"), given.state).to(given.codec.device)

    def encode(waveform: Tensor) -> Tensor:
        mels = [package.log_mel_spectrogram(x, device=x.device) for x in waveform[:, 0]]
        return model.quantize(*package.padding(mels))[0]

    return Published(encode=encode, to_ours=lambda codes: codes.long()[:, None])


CASES = tuple(
    Case(f"s3tokenizer_{name}", f"s3tokenizer_{name}", "s3tokenizer", s3tokenizer)
    for name in ("v1", "v1_25hz", "v2_25hz", "v3_25hz")
)
