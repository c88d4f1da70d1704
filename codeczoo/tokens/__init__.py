"""Data sets of tokens: made of audio shard by shard (`codeczoo tokenize`), and read again for training."""

from codeczoo.tokens.dataset import TokenSet
from codeczoo.tokens.formats import FORMS, Tokens, read_shard

__all__ = ["FORMS", "TokenSet", "Tokens", "read_shard"]
