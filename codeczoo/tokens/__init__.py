"""Data sets of tokens: written shard by shard (`codeczoo tokenize`), and read for training (`TokenSet`)."""

from codeczoo.tokens.dataset import TokenSet
from codeczoo.tokens.formats import FORMS, Tokens, read_shard

__all__ = ["FORMS", "TokenSet", "Tokens", "read_shard"]
