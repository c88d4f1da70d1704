"""How codec.cpp lays out each family in a GGUF file: one file a family that it knows, named as the family's own.

Source: the converters and loaders of https://github.com/mybigday/codec.cpp, read at commit c5ef02b.
"""
