"""Gaps of a scan: how well lost points are repaired, beside the filling of EBSD software.

What:     takes 5, 15 and 30 % of the points out of held-out parts of Inconel 100 and Al1050 the way indexing loses them
          (in clusters, most of them at grain boundaries), fills them and scores what was filled against what was
          measured: copies of the nearest point, the vote of the neighbours, the prior, and the probabilities of the
          grains around, with the share of the truth that the 90 % intervals hold.
Command:  python -m polymicros_jax.main --config=configs/repair_gaps.py
          To fill the points that a scan of your own lacks:
          python -m polymicros_jax.main --config=configs/quickstart.py --workdir=runs/filled \
              --config.super_resolve.mask.kind=unindexed --config.super_resolve.volume.stop="(0,0,0)" \
              --config.super_resolve.volume.source=scan.h5oina --config.super_resolve.volume.frame=oxford
Cost:     about 15 minutes on two idle cores.
Expect:   tables in runs/repair_gaps/report.html and metrics.json.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """Three shares of lost points, crops of 36 x 64 x 48 voxels."""
    config = defaults.default("evaluate")
    volumes = tuple(defaults.volume(f"{name}/evaluate") for name in ("in100", "al1050"))
    for each in volumes:
        each.stop = (36, 64, 48)
    config.evaluate.volumes = volumes
    config.evaluate.factors = ()
    config.evaluate.masks = tuple(defaults.mask("gaps", share=share) for share in (0.05, 0.15, 0.3))
    config.evaluate.steps = 16
    config.evaluate.draws = 3
    return config
