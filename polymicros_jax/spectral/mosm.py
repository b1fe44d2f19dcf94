"""The multi-output spectral mixture kernel: parameters, covariances and designs of experiments.

This page is the public face; the parts live in `mosm_kernel` and `mosm_design`.
"""

from polymicros_jax.spectral.mosm_design import PRESETS, Bounds, DesignReport, design, sample_params
from polymicros_jax.spectral.mosm_kernel import MosmParams, covariance, kernel, with_band

__all__ = [
    "PRESETS",
    "Bounds",
    "DesignReport",
    "MosmParams",
    "covariance",
    "design",
    "kernel",
    "sample_params",
    "with_band",
]
