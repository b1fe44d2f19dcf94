"""The dataset at the paper's size: 2000 covariances x local models x 3 repeats at 128^3 (Sec. 3, App. B.2).

What:     MOSM covariances by Latin hypercube, exact Gaussian random fields, refined by local models (N 25, skip 12).
Command:  python -m polymicros_jax.main --config=configs/generate_128.py
          With W workers, worker i adds --config.generate.workers=W --config.generate.worker=i --workdir=runs/worker_i;
          all write into the one dataset folder.
Cost:     the paper: 45 days on one A100 for 30,000 volumes.
Expect:   not run at full size here; a test builds, shape-evaluates and steps it at a reduced size.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """The paper's design over the local models trained by configs/local_32.py."""
    config = defaults.default("generate")
    config.representation = "rogsh3"
    generate = config.generate
    generate.priors = tuple(f"runs/local_32_{name}/local_{name}.safetensors" for name in ("in100", "al1050"))
    generate.shape = (128, 128, 128)
    generate.covariances = 2000
    generate.repeats = 3
    generate.bounds = "paper"
    generate.crystals = False  # the paper's channels cannot be decoded
    generate.dtype = "float16"
    generate.directory = "runs/generate_128/dataset"
    return config
