"""What codes are like: how much of them is information, and what changes them.

`run.probe` counts the codes of a data set: entropy, mutual information between codebooks, use, stability under changes
that nobody hears, n-grams. `drift.drift` counts the codes that change although the audio does not: with the batch, the
padding, the threads, the precision, the device. `codeczoo probe` and `codeczoo drift` print and save both.
"""
