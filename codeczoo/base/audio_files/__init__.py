"""Reading audio files: what a file is, what its true length is, and its samples in blocks.

`opening` takes every form of a file, `containers` holds the table of what is read and what is believed of a length,
`riff`, `mpeg`, `ogg`, `flac`, `caf` and `ebml` look at the bytes of those containers that need it, `libsndfile` and
`ffmpeg` decode.
"""
