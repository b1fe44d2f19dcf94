"""What a run would cost, before it is started: parameters, memory and time. Nothing is written.

The networks are traced, not compiled. What is measured is one small block on this machine.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from polymicros_jax.conditioners.guidance import KnownVoxelsGuide
from polymicros_jax.dry_run import probe
from polymicros_jax.dry_run.counting import Cost, cost, tree_bytes
from polymicros_jax.dry_run.outline import Work, outline
from polymicros_jax.models import unet3d
from polymicros_jax.models.unet3d import UNet3DConfig
from polymicros_jax.training.prior import Prior
from polymicros_jax.training.step import create_state

METHOD = """\
Parameters and state are counted from the shapes of the network. Memory is the largest sum of arrays alive at once in
one traced evaluation, with its gradient where there is one, and the state, batch or fields beside it; XLA fuses some of
these and adds scratch of its own. Time is the operations of all evaluations over the rate of one residual block timed
on this machine as busy as it is now; expect it within a factor of three. Not in it: compilation (a minute or two on a
CPU), reading, classical baselines, figures."""


def describe(config: ConfigDict) -> str:
    """The resolved config, and for every stage its network, memory and time with how they were found.

    Raises:
      ConfigError: keys that do not fit together.
      DataError: a volume or a prior that cannot be read.
    """
    stages = outline(config)
    lines = [str(config).rstrip(), ""]
    for name, works in stages.items():
        lines.append(f"== {name}")
        lines += [line for work in works for line in _lines(work)] or ["no network; seconds to minutes", ""]
    every = [work for works in stages.values() for work in works]
    known = [work for work in every if work.network is not None]
    if len(every) > 1 and known:
        rest = "" if len(known) == len(every) else f", and {len(every) - len(known)} whose network is not there yet"
        most = max(memory(work) for work in known)
        lines += [f"together    about {_duration(sum(map(seconds, known)))}{rest}; at most about {_size(most)}", ""]
    if known:
        lines += [METHOD, ""]
    return "\n".join([*lines, "Nothing was run or written."])


@lru_cache
def parameters(network: UNet3DConfig) -> Any:
    """Shapes of the parameters of a network, as a tree."""
    return jax.eval_shape(partial(unet3d.init, config=network), jax.random.key(0))


def evaluation(work: Work) -> Cost:
    """Cost of one evaluation of the network, with the gradients that the work takes."""
    assert work.network is not None
    return _evaluation(work.network, (work.rows, *work.shape), work.kind, work.padding)


@lru_cache
def _evaluation(network: UNet3DConfig, shape: tuple[int, ...], kind: str, padding: Any) -> Cost:
    x = jax.ShapeDtypeStruct((*shape, network.channels), jnp.float32)

    def denoise(params: Any, x: jax.Array) -> jax.Array:
        return Prior(params, network, 1.0, "").denoiser(padding)(x, jnp.ones(len(x)))

    def guided(params: Any, x: jax.Array) -> jax.Array:
        guide = KnownVoxelsGuide(values=x[0], known=jnp.ones(x.shape[1:4], bool))
        return guide(Prior(params, network, 1.0, "").denoiser(padding))(x[0], 1.0)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return jnp.mean(jnp.square(denoise(params, x) - x))

    functions: dict[str, Callable[..., Any]] = {"denoise": denoise, "guide": guided, "train": jax.value_and_grad(loss)}
    return cost(functions[kind], parameters(network), x)


def state_bytes(work: Work) -> int:
    """Bytes that stay from one evaluation to the next: parameters, and the fields of a draw or a training's state."""
    assert work.network is not None
    params = parameters(work.network)
    if work.optimisation is None:
        return tree_bytes(params) + 4 * work.network.channels * work.held
    optimisation = work.optimisation
    return tree_bytes(jax.eval_shape(lambda tree: jax.tree.leaves(create_state(tree, optimisation)), params))


def memory(work: Work) -> int:
    """Bytes at the peak of the work, on one device."""
    assert work.network is not None
    params = tree_bytes(parameters(work.network))
    parts = 1 if work.optimisation is None else work.optimisation.accumulate
    # The sum over the parts of a batch lies beside the gradient of the part, and so do the patches of the other parts.
    summed = 0 if parts == 1 else params
    waiting = 4 * work.network.channels * work.rows * math.prod(work.shape) * (parts - 1)
    return state_bytes(work) + summed + waiting + evaluation(work).peak_bytes - params


def seconds(work: Work) -> float:
    """Expected time, compilation left out."""
    assert work.network is not None
    x, y, z = work.shape
    matching = 0.0
    if work.matchings:
        matching = work.matchings * x * y * z * probe.matching_seconds_per_voxel(work.network.channels)
    return work.calls * evaluation(work).operations / probe.rate(work.network) + matching


def _lines(work: Work) -> list[str]:
    lines = [f"work        {work.what}"]
    if work.network is None:
        return [*lines, f"network     {work.note}: parameters, memory and time are known once it is", ""]
    count = unet3d.parameter_count(parameters(work.network))
    lines.append(f"network     {count:,} parameters, {work.note or work.prior or 'fresh'}")
    kept = "parameters and fields" if work.optimisation is None else "parameters, average and optimiser"
    lines.append(f"memory      about {_size(memory(work))}, {_size(state_bytes(work))} of it {kept}")
    operations, rate = evaluation(work).operations, probe.rate(work.network)
    matching = f", and {work.matchings:,} evaluations of two-point statistics at most" if work.matchings else ""
    lines.append(
        f"time        about {_duration(seconds(work))}: {work.calls:,} evaluations of {_number(operations)}FLOP "
        f"at {_number(rate)}FLOP/s{matching}"
    )
    return [*lines, ""]


def _number(value: float) -> str:
    for prefix in ("", "k", "M", "G", "T"):
        if value < 1000:
            return f"{value:.3g} {prefix}"
        value /= 1000
    return f"{value:,.3g} P"


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:,.2f} GiB" if value < 100 else f"{value:,.0f} GiB"


def _duration(time: float) -> str:
    for length, unit in ((86_400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if time >= 2 * length:
            return f"{time / length:,.2g} {unit}" if time < 100 * length else f"{time / length:,.0f} {unit}"
    return f"{time:.2g} s" if time < 99 else f"{time:.0f} s"
