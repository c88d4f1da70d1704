"""How good is it? Every metric by name, one call for all of them, and statistics of codes.

    from codeczoo import metrics

    scores = metrics.evaluate(original, codec.reconstruct(original))     # two Audio
    scores["stoi"]                                                       # float64 [B], NaN where undefined
    scores.reasons["stoi"]                                               # None, or why

`METRICS` is the table of all of them. Each is also a function of (reference, estimate, sample_rate, lengths) on tensors
[B, C, T] whose docstring is its definition.
"""

from codeczoo.metrics.cepstral import mcd
from codeczoo.metrics.codes import CodeStatistics, CodeSummary, LevelSummary, code_statistics
from codeczoo.metrics.crepe_pitch import f0_corr_crepe, f0_ffe_crepe, f0_gpe_crepe, f0_rmse_crepe, vuv_error_crepe
from codeczoo.metrics.error_rates import cer, dcer, dwer, wer
from codeczoo.metrics.frechet import Moments, frechet_distance
from codeczoo.metrics.intelligibility import estoi, stoi
from codeczoo.metrics.networks.recogniser import Recogniser
from codeczoo.metrics.opinion import distillmos, dnsmos_bak, dnsmos_ovrl, dnsmos_p808, dnsmos_sig, utmos
from codeczoo.metrics.pair import Result
from codeczoo.metrics.perceptual import pesq_nb, pesq_wb, visqol
from codeczoo.metrics.pitch import f0_corr, f0_ffe, f0_gpe, f0_rmse, vuv_error
from codeczoo.metrics.pool import WorkerPool
from codeczoo.metrics.samples import si_sdr, snr, waveform
from codeczoo.metrics.scores import Evaluation, Scores, Summary, evaluate, start_evaluation
from codeczoo.metrics.speaker import sim_ecapa, sim_resemblyzer, sim_wavlm
from codeczoo.metrics.spectral import lsd, mel, mel_dac, stft
from codeczoo.metrics.stems import separation_sdr
from codeczoo.metrics.table import DEFAULT_METRICS, METRICS, RUN_METRICS, Metric, RunMetric, metric_names

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "RUN_METRICS",
    "CodeStatistics",
    "CodeSummary",
    "Evaluation",
    "LevelSummary",
    "Metric",
    "Moments",
    "Recogniser",
    "Result",
    "RunMetric",
    "Scores",
    "Summary",
    "WorkerPool",
    "cer",
    "code_statistics",
    "dcer",
    "distillmos",
    "dnsmos_bak",
    "dnsmos_ovrl",
    "dnsmos_p808",
    "dnsmos_sig",
    "dwer",
    "estoi",
    "evaluate",
    "f0_corr",
    "f0_corr_crepe",
    "f0_ffe",
    "f0_ffe_crepe",
    "f0_gpe",
    "f0_gpe_crepe",
    "f0_rmse",
    "f0_rmse_crepe",
    "frechet_distance",
    "lsd",
    "mcd",
    "mel",
    "mel_dac",
    "metric_names",
    "pesq_nb",
    "pesq_wb",
    "separation_sdr",
    "si_sdr",
    "sim_ecapa",
    "sim_resemblyzer",
    "sim_wavlm",
    "snr",
    "start_evaluation",
    "stft",
    "stoi",
    "utmos",
    "visqol",
    "vuv_error",
    "vuv_error_crepe",
    "waveform",
    "wer",
]
