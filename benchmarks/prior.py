"""The prior beside the same network in PyTorch, in one process: optimisation step, denoiser, refinement.

    pip install torch                                   # on a machine without a card: the build for CPUs
    python benchmarks/prior.py                                              # compact prior
    python benchmarks/prior.py --network local --side 32 --batch 8 --dtype bfloat16 --compile      # on a card
    python benchmarks/prior.py --network local --side 128 --batch 1 --dtype bfloat16 --refine 23   # LGD refinement

PyTorch gets the parameters of our network and must give the same output before anything is timed. It runs channels
last, with autocast for bfloat16, the fused optimiser, TF32 where the card has it, and with ``--compile`` through
``torch.compile`` as well: its faster time counts. Our step is the one that trains (`training.step.build_step`); both do
the EDM loss, clipping, AdamW and the average of the parameters. Calls alternate. Given are the shortest wall time and
the least processor time, since wall time says little on a shared machine; the ratio is PyTorch's time over ours, above
1 where ours is faster.

``--refine N`` draws one periodic volume by LGD with N evaluations of the network, from random covariances to the field,
and gives the rate and its share of the card's peak (``--peak`` in TFLOP/s where the card is not known here).

Last result: compact network, defaults, two idle cores (calls alternate), PyTorch 2.14.1::

                              wall [s]   CPU [s]  TFLOP/s  volumes/s
    denoiser      JAX           0.5834    0.9218    0.085      13.71
    denoiser      PyTorch       0.4818    0.9611    0.103      16.60
    denoiser: PyTorch's time over ours 0.83 (processor time 1.04)
    training step JAX           2.7203    4.4413    0.055       2.94
    training step PyTorch       1.5888    3.1222    0.094       5.04
    training step: PyTorch's time over ours 0.58 (processor time 0.70)

The network with two coarse rounds had 0.91 and 0.81 on a busier day, when PyTorch's step took 2.94 s and ours 3.64.

The outputs of the two differ by at most 5.3e-05 standard deviations. Where the denoiser's time goes (two coarse
rounds, one core, 64^3, parts timed alone): of 2.3 s the network on the half grid takes 1.3 s, its two rounds 0.2 s,
the two rounds on the full grid 0.8 s; of these the residual blocks of 16 channels 0.5 s, averaging 0.24 s, products
of channels 0.09 s each. The road to 1.0 is the full grid: its convolutions of 16 channels make 29 GFLOP/s where the
rest of the network makes 76, and averaging is bound by memory, eight passes over nine channels.
"""

import argparse
import copy
import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # two libraries share the card

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from networks import NETWORKS, SIGMA_DATA
from torch.utils.flop_counter import FlopCounterMode

from polymicros_jax import local_global
from polymicros_jax.models import unet3d
from polymicros_jax.models.averaging import INITIAL_LOGIT
from polymicros_jax.models.unet3d import UNet3DConfig
from polymicros_jax.spectral.mosm_design import sample_params
from polymicros_jax.training.prior import Prior
from polymicros_jax.training.step import Optimisation, build_step, create_state

PEAKS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "RTX 4090": 165.0}
"""Dense bfloat16 TFLOP/s of the makers' data sheets."""


class Tree(torch.nn.Module):
    """Parameters of the JAX network under the same names; kernels in PyTorch's order."""

    def __init__(self, params: dict[str, Any], device: torch.device):
        super().__init__()
        for name, leaf in params.items():
            if isinstance(leaf, dict):
                self.add_module(name, Tree(leaf, device))
                continue
            value = torch.empty(leaf.shape, device="meta") if device.type == "meta" else torch.tensor(np.asarray(leaf))
            if value.ndim == 5:
                value = value.permute(4, 3, 0, 1, 2).contiguous(memory_format=torch.channels_last_3d)
            elif value.ndim == 2:
                value = value.T.contiguous()
            self.register_parameter(name, torch.nn.Parameter(value.to(device)))

    def __getitem__(self, name: str) -> "Tree":
        """The branch of that name; they may be numbers."""
        return getattr(self, name)


def padded(x: torch.Tensor, periodic: bool) -> torch.Tensor:
    """One voxel more at both ends of each side; channels stay last in memory, unlike with PyTorch's own padding."""
    for axis in (1, 2, 3):
        first, last = x.narrow(axis, 0, 1), x.narrow(axis, x.shape[axis] - 1, 1)
        x = torch.cat([last, x, first] if periodic else [first, x, last], dim=axis)
    return x


def convolved(p: Tree, x: torch.Tensor, periodic: bool, standardise: bool) -> torch.Tensor:
    """3x3x3 convolution of ``(b, x, y, z, c)``, which PyTorch sees as a permuted channels-last tensor."""
    kernel = p.kernel
    if standardise:
        variance, mean = torch.var_mean(kernel, dim=(1, 2, 3, 4), correction=0, keepdim=True)
        kernel = (kernel - mean) * torch.rsqrt(variance + 1e-5)
    return F.conv3d(padded(x, periodic).permute(0, 4, 1, 2, 3), kernel, p.bias).permute(0, 2, 3, 4, 1)


def dense(p: Tree, x: torch.Tensor) -> torch.Tensor:
    """Linear map of the last axis."""
    return F.linear(x, p.kernel, p._parameters.get("bias"))


def normed(p: Tree, x: torch.Tensor, groups: int) -> torch.Tensor:
    """Group norm in float32."""
    y = F.group_norm(x.float().permute(0, 4, 1, 2, 3), groups, p.norm.scale, p.norm.bias, 1e-6)
    return y.permute(0, 2, 3, 4, 1)


def folded(x: torch.Tensor, f: int) -> torch.Tensor:
    """Blocks of ``f^3`` voxels into channels."""
    b, nx, ny, nz, c = x.shape
    y = x.reshape(b, nx // f, f, ny // f, f, nz // f, f, c).permute(0, 1, 3, 5, 2, 4, 6, 7)
    return y.reshape(b, nx // f, ny // f, nz // f, f**3 * c)


def unfolded(x: torch.Tensor, f: int) -> torch.Tensor:
    """Inverse of `folded`."""
    b, nx, ny, nz, c = x.shape
    y = x.reshape(b, nx, ny, nz, f, f, f, c // f**3).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return y.reshape(b, nx * f, ny * f, nz * f, c // f**3)


def averaged(field: torch.Tensor, features: torch.Tensor, steps: int, periodic: bool) -> torch.Tensor:
    """Nonlinear diffusion of `models.averaging`."""
    rates = []
    for axis in (1, 2, 3):
        rate = torch.exp(-(features.roll(-1, axis) - features).square().sum(-1, keepdim=True)) / 7.0
        if not periodic:
            inside = torch.arange(features.shape[axis], device=features.device) < features.shape[axis] - 1
            rate = rate * inside.reshape([-1 if each == axis else 1 for each in range(5)])
        rates.append(rate)
    for _ in range(steps):
        total = field
        for axis, rate in zip((1, 2, 3), rates, strict=True):
            flux = rate * (field.roll(-1, axis) - field)
            total = total + flux - flux.roll(1, axis)
        field = total
    return field


class TorchUNet(torch.nn.Module):
    """The network of `models.unet3d` in PyTorch."""

    def __init__(self, config: UNet3DConfig, params: dict[str, Any], device: torch.device):
        super().__init__()
        self.config, self.params = config, Tree(params, device)

    def forward(self, x: torch.Tensor, level: torch.Tensor, periodic: bool = False) -> torch.Tensor:
        """Raw output F for fields ``(b, nx, ny, nz, channels)``."""
        config, p = self.config, self.params
        half = config.width // 2
        frequencies = torch.exp(torch.linspace(0.0, float(np.log(1000.0)), half, device=x.device))
        angles = level[:, None] * frequencies
        sinusoids = torch.cat([angles.sin(), angles.cos()], dim=-1)
        embedding = dense(p.embedding.out, F.gelu(dense(p.embedding.hidden, sinusoids), approximate="tanh"))

        def conv_block(q: Tree, x: torch.Tensor, film: tuple[torch.Tensor, ...] | None = None) -> torch.Tensor:
            x = normed(q.norm, convolved(q.conv, x, periodic, True), config.groups)
            if film is not None:
                x = x * (film[0] + 1.0) + film[1]
            return F.silu(x)

        def block(q: Tree, x: torch.Tensor) -> torch.Tensor:
            film = dense(q.film, F.silu(embedding))[:, None, None, None, :].chunk(2, dim=-1)
            y = conv_block(q.second, conv_block(q.first, x, film))
            return y + (dense(q.skip.linear, x) if "skip" in q._modules else x)

        def attention(q: Tree, x: torch.Tensor) -> torch.Tensor:
            qkv = dense(q.to_qkv.linear, normed(q.norm_in, x, 1)).float()
            query, key, value = qkv.reshape(x.shape[0], -1, 3, config.heads, config.head_width).unbind(2)
            query = query.softmax(-1) / config.head_width**0.5
            context = torch.einsum("bshw,bshv->bhwv", key.softmax(1), value)
            read = torch.einsum("bhwv,bshw->bshv", context, query).reshape(*x.shape[:-1], -1)
            return x + normed(q.norm_out, dense(q.to_out.linear, read), 1)

        def doubled(x: torch.Tensor) -> torch.Tensor:
            b, nx, ny, nz, c = x.shape
            y = x[:, :, None, :, None, :, None].expand(b, nx, 2, ny, 2, nz, 2, c)
            return y.reshape(b, 2 * nx, 2 * ny, 2 * nz, c)

        first, second = torch.triu_indices(config.channels, config.channels, device=x.device)

        def refinement(q: Tree, noisy: torch.Tensor, output: torch.Tensor, steps: int) -> torch.Tensor:
            x = block(q.block, dense(q.stem.linear, torch.cat([noisy, output], dim=-1))).float()
            output = output + dense(q.correction.linear, x)
            features = dense(q.boundary.linear, torch.cat([x, output], dim=-1))
            share = torch.sigmoid(dense(q.share.linear, x) + INITIAL_LOGIT)
            gain = dense(q.gain, embedding).exp()[:, None, None, None, :]
            mean = averaged(share * gain * noisy + (1.0 - share) * output, features, steps, periodic)
            pairs = mean[..., first] * (mean / (1.0 + (mean**2).sum(-1, keepdim=True)).sqrt())[..., second]
            turned = dense(q.orbit.linear, torch.cat([mean, pairs], dim=-1))
            return mean + torch.sigmoid(dense(q.strength.linear, x)) * turned

        noisy, last = x, len(config.multipliers) - 1
        x = stem = dense(p.stem.linear, folded(x, config.patch))
        skips = []
        for number in range(last + 1):
            stage, narrow = p.down[str(number)], p.narrow[str(number)]
            for index in range(config.blocks):
                x = block(stage.blocks[str(index)], x)
                if index == config.blocks - 1:
                    x = attention(stage.attention, x)
                skips.append(x)
            x = dense(narrow.mix.linear, folded(x, 2)) if number < last else convolved(narrow, x, periodic, False)
        x = block(p.middle_second, block(p.middle_first, x))
        for number in reversed(range(last + 1)):
            stage, widen = p.up[str(number)], p.widen[str(number)]
            for index in range(config.blocks):
                x = block(stage.blocks[str(index)], torch.cat([x, skips.pop()], dim=-1))
            x = attention(stage.attention, x)
            x = convolved(widen.conv, doubled(x), periodic, False) if number else convolved(widen, x, periodic, False)
        x = block(p.head_block, torch.cat([x, stem], dim=-1))
        output = unfolded(dense(p.head.linear, x).float(), config.patch)
        if config.coarse:
            n, (b, nx, ny, nz, c) = config.patch, output.shape
            split = (b, nx // n, n, ny // n, n, nz // n, n, c)
            means, blocks = (field.reshape(split).mean((2, 4, 6)) for field in (noisy, output))
            refined = blocks
            for number in range(config.coarse):
                refined = refinement(p.coarse[str(number)], means, refined, 2 * config.averaging)
            change = (refined - blocks)[:, :, None, :, None, :, None]
            output = (output.reshape(split) + change).reshape(output.shape)
        for number in range(config.rounds if config.detail else 0):
            output = refinement(p.rounds[str(number)], noisy, output, config.averaging)
        return output


def denoised(network: Callable[..., torch.Tensor], x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """EDM's denoiser around a raw network."""
    s = sigma.reshape(-1, 1, 1, 1, 1)
    total = torch.sqrt(s**2 + SIGMA_DATA**2)
    return (SIGMA_DATA / total) ** 2 * x + s * SIGMA_DATA / total * network(x / total, sigma.log() / 4)


def torch_step(
    module: TorchUNet, network: Callable[..., torch.Tensor], x: torch.Tensor, half: bool
) -> Callable[[], torch.Tensor]:
    """One optimisation step as `build_step` does it, on the batch ``x``."""
    weights = list(module.parameters())
    averages = [weight.detach().clone() for weight in weights]
    optimiser = torch.optim.AdamW(weights, lr=1e-5, weight_decay=1e-5, fused=True)

    def step() -> torch.Tensor:
        sigma = torch.exp(-1.2 + 1.2 * torch.randn(len(x), device=x.device))
        s = sigma.reshape(-1, 1, 1, 1, 1)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            error = denoised(network, x + s * torch.randn_like(x), sigma) - x
        loss = ((s**2 + SIGMA_DATA**2) / (s * SIGMA_DATA) ** 2 * error.float() ** 2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 10.0, foreach=True)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        torch._foreach_lerp_(averages, weights, 0.001)
        return loss.detach()

    return step


def race(calls: dict[str, Callable[[], Any]], repeats: int, settle: Callable[[], None]) -> dict[str, list[float]]:
    """Shortest wall time and least processor time of alternating calls, after one that compiles."""
    best = {name: [float("inf")] * 2 for name in calls}
    for number in range(repeats + 1):
        for name, call in calls.items():
            start, start_processor = time.perf_counter(), time.process_time()
            jax.block_until_ready(call())
            settle()
            times = time.perf_counter() - start, time.process_time() - start_processor
            if number:
                best[name] = [min(old, new) for old, new in zip(best[name], times, strict=True)]
    return best


def forward_flop(config: UNet3DConfig, side: int) -> float:
    """Floating-point operations of one evaluation, as PyTorch counts those of its convolutions and products."""
    shapes = jax.eval_shape(lambda key: unet3d.init(key, config), jax.random.key(0))
    meta = torch.device("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        TorchUNet(config, shapes, meta)(
            torch.empty((1, side, side, side, config.channels), device=meta), torch.empty(1, device=meta)
        )
    return float(counter.get_total_flops())


def randomised(config: UNet3DConfig) -> dict[str, Any]:
    """Parameters with nothing at zero, so that a wrong layer shows."""

    def build(key: jax.Array) -> dict[str, Any]:
        leaves, tree = jax.tree.flatten(unet3d.init(key, config))
        keys = jax.random.split(key, len(leaves))
        return jax.tree.unflatten(
            tree, [leaf + 0.02 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
        )

    return jax.jit(build)(jax.random.key(0))


def side_by_side(config: UNet3DConfig, side: int, batch: int, repeats: int, compiled: bool) -> None:
    """Denoiser and optimisation step of both."""
    cuda = jax.default_backend() == "gpu" and torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    half = config.compute_dtype == "bfloat16"
    settle = torch.cuda.synchronize if cuda else lambda: None
    params = randomised(config)
    fields = SIGMA_DATA * jax.random.normal(jax.random.key(2), (batch, side, side, side, config.channels))
    sigma = jnp.linspace(0.1, 2.0, batch)
    ours = jax.jit(lambda params, x, s: Prior(params, config, SIGMA_DATA, "benchmark").denoiser()(x, s))
    module = TorchUNet(config, params, device)
    x, s = (torch.tensor(np.asarray(each), device=device) for each in (fields, sigma))

    def evaluation(network: Callable[..., torch.Tensor]) -> Callable[[], torch.Tensor]:
        def call() -> torch.Tensor:
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
                return denoised(network, x, s)

        return call

    mine, theirs = np.asarray(ours(params, fields, sigma)), evaluation(module)().float().cpu().numpy()
    apart = float(np.abs(mine - theirs).max() / mine.std())
    print(f"largest difference of the two outputs, in standard deviations: {apart:.1e}")
    if apart > (0.3 if half else 0.05 if cuda else 2e-3):  # a card rounds float32 to TF32
        raise SystemExit("the two networks are not the same")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    denoisers = {"JAX": lambda: ours(params, fields, sigma), "PyTorch": evaluation(module)}
    update = build_step(config, SIGMA_DATA, "benchmark", optimisation := Optimisation(100, batch), jax.random.key(3))
    state = [create_state(params, optimisation)]

    def our_step() -> jax.Array:
        state[0], metrics = update(state[0], fields)
        return metrics["loss"]

    steps = {"JAX": our_step, "PyTorch": torch_step(module, module, x, half)}
    if compiled:
        twin = copy.deepcopy(module)
        denoisers["compiled"] = evaluation(torch.compile(twin))
        steps["compiled"] = torch_step(twin, torch.compile(twin), x, half)
    work = forward_flop(config, side) * batch / 1e12
    print(f"{'':14}{'':10}{'wall [s]':>10}{'CPU [s]':>10}{'TFLOP/s':>9}{'volumes/s':>11}")
    for task, calls, share in (("denoiser", denoisers, 1), ("training step", steps, 3)):
        times = race(calls, repeats, settle)
        for name, (wall, processor) in times.items():
            print(f"{task:14}{name:10}{wall:10.4f}{processor:10.4f}{share * work / wall:9.3f}{batch / wall:11.2f}")
        rivals = [each for name, each in times.items() if name != "JAX"]
        ratios = [min(each[kind] for each in rivals) / times["JAX"][kind] for kind in (0, 1)]
        print(f"{task}: PyTorch's time over ours {ratios[0]:.2f} (processor time {ratios[1]:.2f})", flush=True)


def refinement(config: UNet3DConfig, side: int, evaluations: int, repeats: int, peak: float | None) -> None:
    """Seconds of one LGD volume, covariances to field."""
    steps = 25
    skip = steps - 1 - (evaluations - 1) // 2
    prior = Prior(randomised(config), config, SIGMA_DATA, "benchmark")
    one = jax.tree.map(lambda leaf: leaf[0], sample_params(0, 1, channels=config.channels))
    shape = (side,) * 3
    draw = jax.jit(lambda key, prior, one: local_global.draw(key, prior, one, shape, steps=steps, skip=skip))
    times = race({"LGD": lambda: draw(jax.random.key(0), prior, one)}, repeats, lambda: None)["LGD"]
    count = 2 * (steps - 1 - skip) + 1
    rate = forward_flop(config, side) * count / times[0] / 1e12
    card = jax.devices()[0].device_kind
    peak = peak or next((value for name, value in PEAKS.items() if name in card), None)
    share = "peak unknown" if peak is None else f"{rate / peak:.1%} of {peak:.0f} TFLOP/s"
    print(f"LGD of one {side}^3 volume, {count} evaluations on {card}: {times[0]:.2f} s, {rate:.2f} TFLOP/s, {share}")


def main() -> None:
    """Parses and dispatches."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, default="compact")
    parser.add_argument(
        "--device", choices=("auto", "cpu"), default="auto", help="auto takes a card where there is one"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--side", type=int, default=24)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--remat", action="store_true")
    parser.add_argument("--compile", action="store_true", help="time torch.compile too")
    parser.add_argument("--refine", type=int, metavar="EVALUATIONS", help="odd, at most 49")
    parser.add_argument("--peak", type=float, help="of the card, TFLOP/s")
    given = parser.parse_args()
    if given.device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    config = dataclasses.replace(NETWORKS[given.network], compute_dtype=given.dtype, remat=given.remat)
    if given.refine:
        refinement(config, given.side, given.refine, given.repeats, given.peak)
    else:
        side_by_side(config, given.side, given.batch, given.repeats, given.compile)


if __name__ == "__main__":
    main()
