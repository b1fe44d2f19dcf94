"""A dataset of 64^3 volumes on a CPU: what the prior is fine-tuned on by configs/finetune_64.py.

What:     200 periodic volumes (50 covariances x 2 local models x 2 repeats), refined by the shipped local models of
          Inconel 100 and Al1050. The last 5 of 9 noise levels are taken, from the noise of the paper's 12th of 25: once
          averaged, draws are as near to their source (docs/design.md), and cost 9 evaluations of the network, not 25.
          Then they are grain averaged: orientations change gradually in what the small models draw, and in no grain.
Command:  python -m polymicros_jax.main --config=configs/generate_64.py
          Two processes, one a core:  launch/generate_workers.sh 2 configs/generate_64.py runs/generate_64
          A few of 128^3: --config.generate.shape='(128,128,128)' --config.generate.covariances=2
          --config.generate.repeats=1 --workdir=runs/generate_128_cpu (four; five and a half minutes each on one core)
Cost:     28 to 40 seconds a volume on one core: 47 to 73 minutes with two processes; killed and started again it goes
          on.
Expect:   runs/generate_64/dataset, a zarr v3 store of 41 MB with its card.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """Two hundred samples of 64^3."""
    config = defaults.default("generate")
    generate = config.generate
    generate.priors = ("local_in100", "local_al1050")
    generate.shape = (64, 64, 64)
    generate.covariances = 50
    generate.repeats = 2
    generate.steps, generate.skip = 9, 4
    generate.boundary_cost = 1.0
    generate.fewest_grains = 50
    generate.dtype = "float16"
    return config
