"""Small speech recognisers with random weights, saved as transformers saves them, with tokenizers that are real."""

from __future__ import annotations

import json
from pathlib import Path

import torch

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LANGUAGES = ("en", "de")


def save_whisper(folder: Path, *, timestamps: bool = True, seed: int = 3) -> Path:
    """A Whisper with two layers on each side, that writes letters."""
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spellings.json").write_text(json.dumps({"colours": "colors"}))
    vocab = {token: i for i, token in enumerate([*LETTERS, "Ġ"])}  # byte-level BPE writes a space so
    tokenizer = WhisperTokenizer(vocab=vocab, merges=[], normalizer_file=str(folder / "spellings.json"))
    special = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{name}|>" for name in LANGUAGES), "<|transcribe|>",
               "<|translate|>", "<|notimestamps|>"]  # fmt: skip
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    stamps = [f"<|{0.02 * i:.2f}|>" for i in range(1501)]
    tokenizer.add_tokens(stamps)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in special}
    end = ids["<|endoftext|>"]
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=80, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
        max_source_positions=1500, max_target_positions=64, pad_token_id=end, bos_token_id=end, eos_token_id=end,
        decoder_start_token_id=ids["<|startoftranscript|>"], suppress_tokens=None, begin_suppress_tokens=None,
        init_std=0.4,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():  # so that it prefers letters
        model.model.decoder.embed_tokens.weight[len(vocab) :] *= 0.3
    more = {"no_timestamps_token_id": ids["<|notimestamps|>"], "max_initial_timestamp_index": 50} if timestamps else {}
    model.generation_config = GenerationConfig(
        max_length=24, pad_token_id=end, bos_token_id=end, eos_token_id=end, is_multilingual=True,
        decoder_start_token_id=ids["<|startoftranscript|>"], begin_suppress_tokens=[end], suppress_tokens=[],
        lang_to_id={f"<|{name}|>": ids[f"<|{name}|>"] for name in LANGUAGES},
        task_to_id={name: ids[f"<|{name}|>"] for name in ("transcribe", "translate")}, **more,
    )  # fmt: skip
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "normalizer.json").write_text((folder / "spellings.json").read_text())
    (folder / "spellings.json").unlink()
    return folder


def save_ctc(folder: Path) -> Path:
    """A HuBERT with CTC as facebook/hubert-large-ls960-ft is built: norms by layer, inputs normalised."""
    from transformers import HubertConfig, HubertForCTC, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor

    folder.mkdir(parents=True, exist_ok=True)
    vocab = ["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS.upper()]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocab)}))
    torch.manual_seed(1)
    config = HubertConfig(
        vocab_size=len(vocab), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        conv_dim=(16,) * 7, feat_extract_norm="layer", do_stable_layer_norm=True, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4, pad_token_id=0, initializer_range=0.5, conv_bias=True,
    )  # fmt: skip
    HubertForCTC(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    return folder
