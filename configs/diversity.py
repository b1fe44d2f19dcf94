"""How diverse is a dataset? Effective rank and explained variance beside measured, synthetic and unconditioned volumes.

What:     24 cubes of 16^3 of each set: measured volumes, Voronoi tessellations of two grain sizes, unconditioned draws
          of the local models, and a dataset made with the engine.
Command:  python -m polymicros_jax.main --config=configs/diversity.py
          Beside a dataset: --config.diversity.dataset=runs/generate_64/dataset
          Larger cubes and more of them, without draws and without the small synthetic volume:
          --config.diversity.side=32 --config.diversity.count=96 --config.diversity.priors="()"
          --config.diversity.synthetic="()" --config.diversity.voronoi_grains="(80,800)"
          Synthetic volumes of other programs (DREAM.3D, kanapy) as files: see `synthetic` below.
Cost:     about five minutes on one core, and the compilation of two networks.
Expect:   runs/diversity/report.html with curves, ranks, and scores on common components.
"""

from pathlib import Path

from ml_collections import ConfigDict

from polymicros_jax import config as defaults

SYNTHETIC = ("../shared/data/synth3d_prisms_copper32/Copper.dream3d",)
"""Volumes of the DREAM.3D synthetic builder; a set of their own where the files are at hand."""


def get_config() -> ConfigDict:
    """Measured volumes that travel with the package, and what can be generated."""
    config = defaults.default("diversity")
    config.diversity.measured = (defaults.volume("in100"), defaults.volume("al1050"))
    config.diversity.priors = ("local_in100", "local_al1050")
    config.diversity.synthetic = tuple(defaults.volume(path) for path in SYNTHETIC if Path(path).exists())
    return config
