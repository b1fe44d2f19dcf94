"""Which voxels are known: the paper's Fig. 9, in degrees, on measured volumes.

What:     held-out parts of Inconel 100 and Al1050 of which sections, random voxels, all but a box, three orthogonal
          sections or combinations of these are known; all methods.
Command:  python -m polymicros_jax.main --config=configs/ablation_masks.py
Cost:     about 20 minutes on two idle cores.
Expect:   the figure in runs/ablation_masks/report.html and as masks.png, the numbers in metrics.json.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """Eight masks, crops of 36 x 48 x 41 voxels."""
    config = defaults.default("evaluate")
    volumes = tuple(defaults.volume(f"{name}/evaluate") for name in ("in100", "al1050"))
    for each in volumes:
        each.stop = (36, 48, 41)
    box = {"start": (12, 18, 14), "stop": (24, 30, 26)}
    config.evaluate.volumes = volumes
    config.evaluate.factors = ()
    config.evaluate.masks = (
        defaults.mask("slices", axis="x"),
        defaults.mask("slices", axis="y"),
        defaults.mask("slices", axis="z"),
        defaults.mask("random", share=0.05),
        defaults.mask("box", **box),
        defaults.mask("orthogonal"),
        defaults.mask("slices & box", **box),
        defaults.mask("orthogonal | random", share=0.01),
    )
    config.evaluate.steps = 16
    config.evaluate.draws = 2
    return config
