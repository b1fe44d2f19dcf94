"""Throughput of the dataset engine: samples an hour at several sizes, and the arithmetic to 30,000 volumes of 128^3.

Command: ``python benchmarks/generate.py [--prior compact_gsh4] [--sizes 32 64] [--samples 3] [--steps 25] [--skip 12]``

A sample is all that a worker does: field, diffusion, decoding, checks, compression, writing. The first of each size
compiles and is left out. One process; several that share a device share its rate. On a GPU the volumes of the paper
are measured directly with ``--sizes 128``; elsewhere the time of a voxel is taken from the sizes given.
"""

import argparse
import tempfile

from polymicros_jax.data import store
from polymicros_jax.data.feasibility import Limits
from polymicros_jax.data.throughput import sentences, throughput
from polymicros_jax.generation import generate
from polymicros_jax.training.prior import load_prior


def main() -> None:
    """Prints one line a size."""
    parser = argparse.ArgumentParser(description="Throughput of the dataset engine.")
    parser.add_argument("--prior", default="compact_gsh4")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--skip", type=int, default=12)
    arguments = parser.parse_args()
    prior = load_prior(arguments.prior)
    for side in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            generate(
                folder,
                priors={arguments.prior: prior},
                shape=(side,) * 3,
                covariances=arguments.samples + 1,
                repeats=1,
                seed=0,
                steps=arguments.steps,
                skip=arguments.skip,
                limits=Limits(distance=10.0),  # a rejected sample would be timed twice
            )
            made = store.open(folder)
            print("\n".join(sentences(throughput(made), made.shape)), flush=True)


if __name__ == "__main__":
    main()
