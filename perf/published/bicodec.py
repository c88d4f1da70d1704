from __future__ import annotations

import contextlib
import io
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from codeczoo import Codes
from perf.published.interface import Case, Given, Published, from_hub_names, on_path, part

SPEECH = "wav2vec2."
Tokens = tuple[Tensor, Tensor]  # of the voice [B, 1, 32], and of time [B, N]


def repository(given: Given) -> Published:
    """By its loader, given what it would read; batches by its `tokenize_batch`."""
    on_path(given.checkout)
    from sparktts.models import bicodec
    from sparktts.models.audio_tokenizer import BiCodecTokenizer
    from sparktts.utils.audio import audio_volume_normalize
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    settings, device = given.settings, given.codec.device
    voice = {key: value for key, value in given.state.items() if not key.startswith(SPEECH)}
    with (
        patch.object(bicodec, "load_config", lambda _: settings),
        patch.object(bicodec, "load_file", lambda _: voice),
        contextlib.redirect_stdout(io.StringIO()),  # it prints the tensors that its constructor computes
    ):
        model = bicodec.BiCodec.load_from_checkpoint("")
    tokenizer = BiCodecTokenizer.__new__(BiCodecTokenizer)  # its constructor reads files
    tokenizer.config, tokenizer.device, tokenizer.model = settings["top"], device, model.to(device)
    # It runs all 24 layers and takes what enters the 17th; those after the 16th keep the values that they begin with.
    config = Wav2Vec2Config(**settings["wav2vec2"], output_hidden_states=True)
    speech = from_hub_names(Wav2Vec2Model, config, part(given.state, SPEECH))
    tokenizer.feature_extractor = speech.to(device)
    tokenizer.processor = Wav2Vec2FeatureExtractor(return_attention_mask=True)

    def encode(waveform: Tensor) -> Tokens:
        """As its `process_audio` prepares what it has read from a file."""
        clips = [audio_volume_normalize(clip) for clip in waveform[:, 0].cpu().numpy().astype(np.float64)]
        voices = torch.from_numpy(np.stack([tokenizer.get_ref_clip(clip) for clip in clips])).float()
        return tokenizer.tokenize_batch({"wav": clips, "ref_wav": voices.to(device)})

    def tokens(codes: Codes) -> Tokens:
        return codes.side_info["global_codes"], codes.codes[:, 0]

    return Published(
        encode=encode,
        to_ours=lambda tokens: tokens[1][:, None],
        decode=lambda tokens: model.detokenize(tokens[1], tokens[0]),
        from_ours=tokens,
    )


CASES = (Case("bicodec", "bicodec", "Spark-TTS", repository, repository="SparkAudio/Spark-TTS"),)
