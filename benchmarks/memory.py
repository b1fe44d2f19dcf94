"""Memory of one training step on each device: ``compiled.memory_analysis()``, from shapes alone.

    python benchmarks/memory.py --network foundation --side 128 --devices 2              # compiled for a CPU
    JAX_PLATFORMS=cpu JAX_SKIP_CUDA_CONSTRAINTS_CHECK=1 \\
        python benchmarks/memory.py --network foundation --side 128 --card h100          # for a card; none is needed

The step is the one that trains (`training.step.build_step`), with and without rematerialisation.

``--card`` compiles for a card that need not be there: JAX's CUDA plugin (``pip install "jax[cuda12]"``) compiles from a
description of the card. What only a card can tell is left out: convolutions are calls of cuDNN whose scratch, chosen at
run time, counts as nothing here. Compiled for an H100 of 80 GB, foundation network, bfloat16, GiB on each card
(JAX 0.10.2):

    volume        cards     state     scratch with rematerialisation     without
    1 x 128^3         1       3.9                               16.0        42.9
    1 x 256^3         2       4.0                              139.1       151.2

So a step with one volume of 128^3 fits a card of 80 GB more than twice over, and one of 256^3 does not fit two.

Compiled for a CPU, where devices are emulated, the step takes the convolution of accelerators. That backend has no
bfloat16 arithmetic (float32 copies), keeps transposed copies of inputs for the gradients of kernels, and drops the
barriers of rematerialisation before it schedules, so that most of what is recomputed lives as long as what is stored.
There 1 x 128^3 has 89.5 GiB of scratch (105.2 without rematerialisation) on one device and 44.8 (54.4) on each of two.
"""

import argparse
import dataclasses
import time

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from networks import NETWORKS, SIGMA_DATA

from polymicros_jax.models import convolution, layers, unet3d
from polymicros_jax.models.unet3d import UNet3DConfig
from polymicros_jax.training.mesh import build_mesh
from polymicros_jax.training.step import Optimisation, build_step, create_state

CARDS = {
    "h100": """
        platform_name: "CUDA"
        device_description_str: "NVIDIA H100 80GB HBM3"
        dnn_version_info { major: 9 minor: 8 }
        runtime_version { major: 12 minor: 8 }
        gpu_device_info {
          cuda_compute_capability { major: 9 }
          device_memory_size: 85520809984
          memory_bandwidth: 3352320000000
          core_count: 132
          fpus_per_core: 128
          clock_rate_ghz: 1.98
          l2_cache_size: 52428800
          threads_per_warp: 32
          threads_per_block_limit: 1024
          threads_per_core_limit: 2048
          registers_per_block_limit: 65536
          registers_per_core_limit: 65536
          shared_memory_per_block: 49152
          shared_memory_per_block_optin: 232448
          shared_memory_per_core: 233472
          block_dim_limit_x: 2147483647
          block_dim_limit_y: 65535
          block_dim_limit_z: 65535
        }
    """
}
"""Descriptions of cards as the CUDA plugin takes them: figures of the maker's data sheet and programming guide."""


def memory(config: UNet3DConfig, side: int, batch: int, devices: list[jax.Device]) -> None:
    """Prints state and scratch of one optimisation step on each of the devices, which share a sample."""
    optimisation = Optimisation(100, batch)
    patches = jax.ShapeDtypeStruct((batch, side, side, side, config.channels), jnp.float32)
    for remat in (True, False):
        network = dataclasses.replace(config, remat=remat)
        state = jax.eval_shape(
            lambda key, network=network: create_state(unet3d.init(key, network), optimisation), jax.random.key(0)
        )
        mesh = build_mesh(len(devices), devices)
        step = build_step(network, SIGMA_DATA, "benchmark", optimisation, jax.random.key(0), mesh=mesh)
        began = time.perf_counter()
        used = step.lower(state, patches).compile().memory_analysis()
        if used is None:
            raise SystemExit("this backend reports no memory")
        arguments, scratch = used.argument_size_in_bytes, used.temp_size_in_bytes
        print(
            f"{batch} x {side}^3 over {len(devices)} of {devices[0].device_kind}, {network.compute_dtype}, "
            f"{'with' if remat else 'without'} rematerialisation: {arguments / 2**30:.1f} GiB of state and "
            f"{scratch / 2**30:.1f} GiB of scratch on each (compiled in {time.perf_counter() - began:.0f} s)",
            flush=True,
        )


def main() -> None:
    """Parses and dispatches."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, default="compact")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--side", type=int, default=24)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--devices", type=int, default=1, help="that share one sample")
    parser.add_argument("--card", choices=CARDS, help="to compile for; the devices of this machine by default")
    given = parser.parse_args()
    if given.card:
        layout = f"1x1x{given.devices}"  # processes, hosts of each, devices of each
        card = topologies.get_topology_desc(platform="cuda", target_config=CARDS[given.card], topology=layout)
        devices = list(card.devices)
    else:
        jax.config.update("jax_num_cpu_devices", given.devices)
        devices = jax.devices()[: given.devices]
        if jax.default_backend() == "cpu":
            layers.convolve = convolution.convolve_volumes
    config = dataclasses.replace(NETWORKS[given.network], compute_dtype=given.dtype)
    memory(config, given.side, given.batch, devices)


if __name__ == "__main__":
    main()
