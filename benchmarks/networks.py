"""The networks that the benchmarks measure, by name."""

from polymicros_jax.models.unet3d import UNet3DConfig

NETWORKS = {
    "tiny": UNet3DConfig(channels=3, width=8, multipliers=(1, 2), heads=2, head_width=4),
    "compact": UNet3DConfig(channels=9, multipliers=(2, 3, 3), patch=2, detail=16, rounds=2, coarse=3),
    "local": UNet3DConfig(channels=3, multipliers=(4, 8, 16)),
    "foundation": UNet3DConfig(channels=3, multipliers=(8, 16, 24)),
}
"""Compact is the shipped prior; local and foundation are the paper's (App. C)."""

SIGMA_DATA = 0.5
