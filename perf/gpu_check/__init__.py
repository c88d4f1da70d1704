"""What only a GPU can show, in one run of at most ten minutes: is everything there what it is here, and how fast?

    python -m perf.gpu_check --out gpu.json                 # on CUDA: what is most wanted first
    python -m perf.gpu_check --codecs mimi encodec_24k      # all of two codecs
    python -m perf.gpu_check --sections shapes drift        # of the codecs that have them
    python -m perf.gpu_check --device cpu --quick --codecs encodec_24k      # does the script itself run?

Run it from the repository's root; weights and truth are the golden cases under tests/golden, so nothing is downloaded.
Of each codec:

  golden     stable codes that differ from the published implementation's (0 is right), share of all codes that agree,
             and the largest error of the decoded audio, relative to its peak
  ragged     each clip of a ragged batch against itself alone: codes that differ, largest error of the audio
  passes     a clip in passes against the whole, where the codec promises that they are equal
  stream     chunk by chunk against the whole, where the codec, or its decoder alone, is causal
  graph      a stream with `cuda_graph=True` beside one without, one hop a step: codes and samples that differ, and
             milliseconds a step of both (without CUDA neither is captured)
  precision  seconds of audio a second under each precision (and compiled, with --compiled), the share of codes and the
             signal-to-difference ratio that the faster ones keep, and whether "fast" keeps what docs/precision.md says
  shapes     1, 8 and 32 clips of about 1 s, ragged, with `compile=True` beside without: seconds of audio a second,
             codes and samples that differ, graphs, and what runs without one (without CUDA nothing is captured)
  drift      `codeczoo drift` of a few codecs: batches to 200, padding, order, precision, and against the CPU
  hours      audio-hours that Mimi encodes in an hour, by precision and batch; 10,000 are wanted

Of the rest:

  metric     by the golden pairs: largest difference between the device and the CPU, and from the packages that define
             them
  pipeline   clips a second of the benchmark beside a plain loop

The order: what is wanted of the best known codecs; networks that no GPU has seen yet; metrics and pipeline; all else.
What no longer fits into `--minutes` is listed as left out. A section that ends in an error is listed too, and the next
one goes on. The JSON is written after every step. The exit code is 1 if a promise was broken: golden, ragged, passes,
stream, graph and shapes are promises, the others are not.
"""
