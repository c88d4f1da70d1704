"""Data sets of tokens: made of audio shard by shard (`codeczoo tokenize`), and read again for training."""

from codeczoo.tokens.forms import FORMS, Tokens, read_shard
from codeczoo.tokens.reader import TokenSet

__all__ = ["FORMS", "TokenSet", "Tokens", "read_shard"]
