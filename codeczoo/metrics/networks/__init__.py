"""Networks that judge audio, on the codecs' blocks."""
