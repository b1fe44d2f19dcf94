"""What runs on eight emulated devices, for test_sharding: ``eight_devices.py CASE`` prints its findings as JSON."""

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from polymicros_jax.diffusion.loss import NoiseLaw
from polymicros_jax.models import convolution, layers, unet3d
from polymicros_jax.training.mesh import build_mesh, on_this_process, patch_sharding, place_patches, place_whole
from polymicros_jax.training.step import Optimisation, build_step, create_state

RNG = np.random.default_rng(0)
KEY = jax.random.key(3)


def largest_difference(one: Any, other: Any) -> float:
    """Over the leaves of two trees, in units of the root mean square of each leaf of the first."""

    def of_leaf(a: jax.Array, b: jax.Array) -> float:
        a, b = np.float64(a), np.float64(b)
        return float(np.abs(a - b).max() / np.sqrt(np.mean(a**2)))

    return max(jax.tree.leaves(jax.tree.map(of_leaf, one, other)))


def collectives(program: Any) -> dict[str, list[int]]:
    """Elements of every array that a compiled program receives from other devices, by kind."""
    found: dict[str, list[int]] = {}
    pattern = r" = (\(?\w+\[.*?) (all-gather|all-reduce|all-to-all|collective-permute)(?:-start)?\("
    for result, kind in re.findall(pattern, program.as_text()):
        for shape in re.findall(r"\w+\[([\d,]*)\]", result):
            found.setdefault(kind, []).append(int(np.prod([int(n) for n in shape.split(",") if n] or [1])))
    return found


def steps() -> dict[str, float]:
    """Two steps with rotations, two parts and a linear network, on meshes of several shapes against one device."""

    def apply(config: Any, params: Any, x: jax.Array, c_noise: Any, *, padding: str = "replicate") -> jax.Array:
        level = jnp.asarray(c_noise).reshape(-1, 1, 1, 1, 1)
        return jnp.einsum("bxyzh,hg->bxyzg", x, params["mix"]) + level * params["slope"].reshape(1, 1, 1, 1, 2)

    def random_sign(key: jax.Array, patches: jax.Array) -> jax.Array:
        return patches * jnp.where(jax.random.bernoulli(key, shape=(patches.shape[0], 1, 1, 1, 1)), 1.0, -1.0)

    unet3d.apply = apply
    config = unet3d.UNet3DConfig(channels=2, width=8, multipliers=(1,), blocks=1)
    optimisation = Optimisation(steps=9, batch=16, accumulate=2, warmup=0, learning_rate=0.05, noise=NoiseLaw(-0.5, 1))
    params = {"mix": jnp.asarray(RNG.normal(size=(2, 2)), jnp.float32), "slope": jnp.full(2, 0.3)}
    batches = [(RNG.normal(size=(16, 8, 4, 4, 2)) + 1).astype(np.float32) for _ in range(2)]

    def trained(mesh: Mesh | None, *orders: slice) -> list[Any]:
        step = build_step(config, 0.5, "rogsh3", optimisation, KEY, rotate=random_sign, mesh=mesh)
        results = []
        for order in orders:
            state, metrics = place_whole(mesh, create_state(params, optimisation)), []
            for patches in batches:
                state, found = step(state, place_patches(mesh, patches[order], 16))
                metrics.append(found)
            results.append(jax.device_get((on_this_process(state.params), on_this_process(state.ema), metrics)))
        return results

    forwards, backwards = slice(None), slice(None, None, -1)
    (alone,) = trained(None, forwards)
    (rows,) = trained(build_mesh(1), forwards)
    both, other = trained(build_mesh(4), forwards, backwards)
    # Rows in another order get noise of another level, whatever device they lie on.
    runs = {"8 x 1": rows, "2 x 4": both, "other rows": other}
    return {name: largest_difference(alone, result) for name, result in runs.items()}


def layer_by_layer() -> dict[str, Any]:
    """Each operation of the network on a mesh of 2 x 4: result, and what crosses between devices."""
    mesh = build_mesh(4)
    split, everywhere = patch_sharding(mesh), NamedSharding(mesh, PartitionSpec())
    x = jnp.asarray(RNG.normal(size=(2, 16, 6, 6, 4)), jnp.float32)
    kernel = jnp.asarray(RNG.normal(size=(3, 3, 3, 4, 4)), jnp.float32)

    def attended(x: jax.Array, kernel: jax.Array) -> jax.Array:
        # The core of linear attention: a softmax over all voxels, a context, a read.
        keys = jax.nn.softmax(x.reshape(2, -1, 4), axis=1)
        context = jnp.einsum("bsh,bsv->bhv", keys, x.reshape(2, -1, 4))
        return jnp.einsum("bhv,bsh->bsv", context, x.reshape(2, -1, 4)).reshape(x.shape) + jnp.mean(kernel)

    def doubled(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.repeat(layers.depth_to_space(layers.space_to_depth(x, 2), 2), 2, axis=1) + jnp.mean(kernel)

    operations: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {"attention": attended, "resampling": doubled}
    for padding in ("replicate", "periodic"):
        for lowering in (convolution.convolve_volumes, convolution.convolve_tiles):
            name = f"{lowering.__name__} {padding}"
            operations[name] = lambda x, k, p=padding, low=lowering: low(layers.pad(x, 1, p), k)

    findings: dict[str, Any] = {"elements": x.size}
    for name, operation in operations.items():

        def gradients(x: jax.Array, kernel: jax.Array, of: Any = operation) -> Any:
            return jax.grad(lambda *a: jnp.sum(jnp.square(of(*a))), argnums=(0, 1))(x, kernel)

        program = jax.jit(gradients, in_shardings=(split, everywhere), out_shardings=(split, everywhere))
        compiled = program.lower(x, kernel).compile()
        findings[name] = {
            "difference": largest_difference(jax.jit(gradients)(x, kernel), compiled(x, kernel)),
            "received": collectives(compiled),
        }
    whole = jax.jit(lambda x: x + 1, in_shardings=split, out_shardings=everywhere).lower(x).compile()
    findings["gathered on purpose"] = {"received": collectives(whole)}
    return findings


def unet() -> dict[str, Any]:
    """One step of a UNet at 32^3: four devices for one sample against one device."""
    config = unet3d.UNet3DConfig(channels=3, width=8, multipliers=(1, 1), blocks=1, groups=2, heads=1, head_width=4)
    shapes = jax.eval_shape(lambda key: unet3d.init(key, config), KEY)
    params = jax.tree.map(lambda leaf: jnp.asarray(0.2 * RNG.normal(size=leaf.shape), jnp.float32), shapes)
    optimisation = Optimisation(steps=9, batch=1, warmup=0, learning_rate=1e-3)
    patches = (0.5 * RNG.normal(size=(1, 32, 32, 32, 3))).astype(np.float32)
    results, memory, received = [], [], {}
    for mesh in (None, build_mesh(4, jax.devices()[:4])):
        step = build_step(config, 0.5, "rogsh3", optimisation, KEY, mesh=mesh)
        state, placed = place_whole(mesh, create_state(params, optimisation)), place_patches(mesh, patches, 1)
        compiled = step.lower(state, placed).compile()
        memory.append(compiled.memory_analysis().temp_size_in_bytes)
        received = collectives(compiled)
        new, metrics = compiled(state, placed)
        moments = on_this_process(new.optimiser[1][0].mu)  # a tenth of the clipped gradient
        results.append(jax.device_get((metrics, moments)))
    return {"difference": largest_difference(*results), "memory": memory, "received": received}


if __name__ == "__main__":
    case = {"steps": steps, "layers": layer_by_layer, "unet": unet}[sys.argv[1]]
    print(json.dumps({"devices": jax.device_count(), **case()}))
