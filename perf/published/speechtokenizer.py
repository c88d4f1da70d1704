from __future__ import annotations

from perf.published.interface import Case, Given, Published, loaded, swapped


def speechtokenizer(given: Given) -> Published:
    from speechtokenizer import SpeechTokenizer

    codec = given.codec
    config = {
        "sample_rate": 16000,
        "n_filters": 64,
        "strides": [8, 5, 4, 2],
        "dimension": 1024,
        "semantic_dimension": 768,
        "bidirectional": True,
        "dilation_base": 2,
        "residual_kernel_size": 3,
        "n_residual_layers": 1,
        "lstm_layers": 2,
        "activation": {"elu": "ELU", "snake": "Snake"}[codec.config.activation],
        "codebook_size": 1024,
        "n_q": 8,
    }
    model = loaded(SpeechTokenizer(config), given.state).to(codec.device)
    return Published(encode=model.encode, to_ours=swapped, decode=model.decode, from_ours=swapped)


CASES = (
    Case("speech_tokenizer_16k", "speechtokenizer_16k", "speechtokenizer", speechtokenizer),
    Case("speechtokenizer_snake_16k", "speechtokenizer_snake_16k", "speechtokenizer", speechtokenizer),
)
