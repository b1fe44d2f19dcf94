"""The multi-output spectral mixture kernel: parameters, covariances, designs of experiments and fits.

This page is the public face; the parts live in `mosm_kernel`, `mosm_design` and `mosm_fit`.
"""

from polymicros_jax.spectral.mosm_design import PRESETS, Bounds, DesignReport, design, sample_params
from polymicros_jax.spectral.mosm_fit import MosmFit, fit, relative_error
from polymicros_jax.spectral.mosm_kernel import MosmParams, covariance, kernel, with_band

__all__ = [
    "PRESETS",
    "Bounds",
    "DesignReport",
    "MosmFit",
    "MosmParams",
    "covariance",
    "design",
    "fit",
    "kernel",
    "relative_error",
    "sample_params",
    "with_band",
]
