"""Which law of the training noise is best, by held-out error per noise level (the paper takes the law of 2D images).

The same network, the same patches in the same order and the same number of steps under each law; only the noise levels
differ. Laws trade levels against each other: a law is better for a task if it is better at the levels that task visits
(super-resolution from an interpolation starts at 0.5; an unconditional draw visits all).

Command:  python benchmarks/noise_law.py --steps 1500 --batch 8 --patch 24
Quick:    python benchmarks/noise_law.py --steps 2 --batch 2 --patch 16 --width 8 --multipliers 1 2
Result:   a table of relative errors, one row a law, and noise_law.json with --out; docs/design.md has one of 300 steps.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from polymicros_jax.data import repair, samples
from polymicros_jax.data.patches import MemoryFields, cube_symmetries, grid_of_patches
from polymicros_jax.diffusion.loss import EDM_NOISE, NoiseLaw
from polymicros_jax.models import unet3d
from polymicros_jax.orientation import representation
from polymicros_jax.train import train
from polymicros_jax.training.augment import texture_rotation
from polymicros_jax.training.ema import EmaLaw
from polymicros_jax.training.prior import Prior
from polymicros_jax.training.step import Optimisation

LAWS = {
    "EDM, the paper's": EDM_NOISE,
    "N(-0.6, 1.1^2)": NoiseLaw(-0.6, 1.1),
    "N(0.3, 1.3^2)": NoiseLaw(0.3, 1.3),
    "N(-0.6, 1.8^2), wide": NoiseLaw(-0.6, 1.8),
}


def measure(law: NoiseLaw, arguments: argparse.Namespace) -> dict[str, float]:
    """Held-out relative error per noise level of one training."""
    kind = representation.get("gsh4")
    fields = {
        split: np.asarray(kind.encode(repair.fill(samples.load("in100", split)).quaternions))
        for split in ("train", "evaluate")
    }
    network = unet3d.UNet3DConfig(
        channels=kind.channels,
        width=arguments.width,
        multipliers=tuple(arguments.multipliers),
        patch=2,
        detail=arguments.detail,
        coarse=arguments.coarse,
    )
    prior = Prior(unet3d.init(jax.random.key(0), network), network, kind.sigma_data, kind.name, arguments.sigma_skip)
    optimisation = Optimisation(
        steps=arguments.steps,
        batch=arguments.batch,
        learning_rate=1.5e-3,
        beta2=0.99,
        noise=law,
        ema=EmaLaw(0.999, 9.0),
    )
    assert kind.sample_rotation is not None
    with tempfile.TemporaryDirectory() as folder:
        _, account = train(
            Path(folder),
            prior,
            MemoryFields((fields["train"],)),
            optimisation,
            seed=0,
            patch=arguments.patch,
            symmetries=cube_symmetries(kind.sample_rotation),
            rotate=texture_rotation(kind),
            validation=grid_of_patches(MemoryFields((fields["evaluate"],)), size=arguments.patch, stride=22),
            validate_every=arguments.steps,
            checkpoint_every=arguments.steps,
        )
    return account["relative_error"]


def main() -> None:
    """One training a law, and a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--patch", type=int, default=24)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--multipliers", type=int, nargs="+", default=[2, 3, 3])
    parser.add_argument("--detail", type=int, default=16)
    parser.add_argument("--coarse", type=int, default=1)
    parser.add_argument("--sigma-skip", type=float, default=0.05)
    parser.add_argument("--laws", nargs="+", default=list(LAWS), choices=list(LAWS))
    parser.add_argument("--out", type=Path, help="file for the table as JSON")
    arguments = parser.parse_args()
    print(
        f"{jax.device_count()} x {jax.devices()[0].device_kind}, {arguments.steps} steps of {arguments.batch} patches"
    )
    table: dict[str, dict[str, float]] = {}
    for name in arguments.laws:
        began = time.perf_counter()
        table[name] = measure(LAWS[name], arguments)
        if len(table) == 1:
            print(f"{'relative error at sigma =':<26}" + "".join(f"{sigma:>8}" for sigma in table[name]))
        values = "".join(f"{error:8.3f}" for error in table[name].values())
        print(f"{name:<26}{values}   {time.perf_counter() - began:.0f} s", flush=True)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
