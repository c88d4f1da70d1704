"""Data sets of tokens: written shard by shard (`codeczoo tokenize`), read for training (`TokenSet`), and put into rows
for language models (`TokenLayout`)."""

from codeczoo.tokens.dataset import TokenSet
from codeczoo.tokens.flatten import TokenLayout
from codeczoo.tokens.formats import FORMS, Tokens, read_shard

__all__ = ["FORMS", "TokenLayout", "TokenSet", "Tokens", "read_shard"]
