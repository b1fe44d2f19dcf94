# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Match statistics with `jax.grad`
#
# Two-point statistics are differentiable in the voxels, so a field can be moved until it has given ones. In this
# notebook the target is measured on an EBSD map, the gradient is checked against finite differences, and L-BFGS
# walks from white noise to a periodic map with the statistics of the measured one.
#
# At the end stands why that is not enough: very different fields share their two-point statistics, and most of them
# are no polycrystals.

# %% [markdown]
# The first cell installs the package where it is missing. In Colab, clone the repository before it, in a cell of its
# own: `!git clone` and the address. Everything else runs on two CPU cores in a few minutes.

# %%
import importlib.metadata
import subprocess
import sys
from pathlib import Path

try:
    importlib.metadata.version("polymicros-jax")
except importlib.metadata.PackageNotFoundError:
    near = [Path.cwd(), *Path.cwd().parents, *Path.cwd().iterdir()]
    clone = next(each for each in near if (each / "polymicros_jax" / "__init__.py").is_file())
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", str(clone)], check=True)

# %%
import jax
import jax.numpy as jnp
import numpy as np
import optax

import polymicros_jax as pm
from polymicros_jax.viz import canvas, correlations

# %% tags=["parameters"]
SIDE = 96  # of the field, pixels
REACH = 8  # lags up to so many pixels along each axis are matched
STEPS = 120

# %% [markdown]
# ## The target
#
# Correlations of the nine channels of a section of a nickel superalloy, at all lags of a small square. They say how
# alike two points are, as a function of the vector between them. A measured map does not wrap around:
# `periodic=False` counts only pairs that are there, and `mask` leaves out what was not indexed.

# %%
kind = pm.representation("gsh4")
section = pm.load_sample("in100").crop((0, 0, 30), (100, 100, 31))
channels = kind.encode(section.quaternions)[:, :, 0]
near = np.ix_(range(-REACH, REACH + 1), range(-REACH, REACH + 1))
target = pm.two_point.correlations(channels, periodic=False, mask=section.mask[:, :, 0])[near]
variance = kind.sigma_data**2
print(f"{target.size:,} numbers; mean variance of a channel under uniform texture {variance}")
pm.plot(section, title="Measured")

# %% [markdown]
# ## The loss and its gradient
#
# `two_point.correlations` goes through FFTs, and JAX differentiates through them. Multiplying the unknown by `SIDE`
# gives it a length at which the first step of L-BFGS is about right.


# %%
def loss(unknown):
    """Squared differences over squared targets: 1 for a field without any correlation."""
    found = pm.two_point.correlations(SIDE * unknown)[near]
    return jnp.sum((found - target) ** 2) / jnp.sum(target**2)


start_key, direction_key = jax.random.split(jax.random.key(0))
start = kind.sigma_data / SIDE * jax.random.normal(start_key, (SIDE, SIDE, kind.channels))
loss_and_gradient = jax.jit(jax.value_and_grad(loss))
gradient = loss_and_gradient(start)[1]

# %% [markdown]
# Along any direction the gradient must agree with the slope between two nearby fields. Single precision leaves about
# three digits of such a slope.

# %%
direction = jax.random.normal(direction_key, start.shape)
direction = direction / jnp.linalg.norm(direction) + gradient / jnp.linalg.norm(gradient)
step = 0.01
after, before = (loss_and_gradient(start + side * step * direction)[0] for side in (1, -1))
slope = (after - before) / (2 * step)
predicted = jnp.vdot(gradient, direction)
print(f"slope {slope:.5e}, gradient {predicted:.5e}")

# %% [markdown]
# ## Descend

# %%
solver = optax.lbfgs()


@jax.jit
def descend(unknown):
    """L-BFGS with its line search; the loss before every step."""
    value_and_grad = optax.value_and_grad_from_state(loss)

    def iterate(carry, _):
        unknown, state = carry
        value, slope = value_and_grad(unknown, state=state)
        update, state = solver.update(slope, state, unknown, value=value, grad=slope, value_fn=loss)
        return (optax.apply_updates(unknown, update), state), value

    (unknown, _), losses = jax.lax.scan(iterate, (unknown, solver.init(unknown)), length=STEPS)
    return unknown, losses


unknown, losses = descend(start)
matched, final_loss = SIDE * unknown, float(loss_and_gradient(unknown)[0])
error = float(jnp.abs(pm.two_point.correlations(matched)[near] - target).max())
print(f"loss {losses[0]:.3f} -> {final_loss:.1e}")
print(f"largest error {error:.5f}, {100 * error / variance:.2f} % of the variance")

# %%
drawing = canvas.figure(5.0, 2.6)
axes = drawing.subplots()
axes.semilogy(losses)
axes.set_xlabel("step")
axes.set_ylabel("loss")
drawing

# %% [markdown]
# Three of the 81 pairs of channels. Zero lag stands in the middle.

# %%
shown = {
    "measured": target,
    "white noise": pm.two_point.correlations(SIDE * start)[near],
    "matched": pm.two_point.correlations(matched)[near],
}
correlations.rows_of_pairs(
    {name: np.fft.ifftshift(np.asarray(each), axes=(0, 1)) for name, each in shown.items()},
    pairs=[(0, 0), (4, 4), (0, 4)],
    spacing=section.spacing[:2],
    difference=True,
)

# %% [markdown]
# Not every target can be reached. A box of a few grains has too few degrees of freedom at long waves for statistics
# averaged over many grains; with a side of 16 pixels the descent stalls.
#
# ## What the statistics do not know
#
# The matched map, every pixel in the colour of its nearest crystal. The *distance to the crystals* is that of the
# nine channels to the nearest orientation, over their length: 0 in a polycrystal, about two thirds in a random
# field. Two-point statistics see how alike points are at a distance, not that there are grains with sharp
# boundaries. That is the job of a prior: the notebook on three maps matches statistics *while* a diffusion model
# draws.

# %%
length = float(jnp.linalg.norm(channels[0, 0]))
decoded, distance = kind.decode(matched)
off_manifold = float(jnp.mean(distance)) / length
of_the_map = float(jnp.mean(kind.decode(channels)[1])) / length
print(f"mean distance to the crystals {off_manifold:.2f}, of the measured map {of_the_map:.1e}")
pm.plot(decoded[:, :, None], spacing=section.spacing, title="Matched")

# %% [markdown]
# Without any descent: `spectral.random_field.sample_spectral` draws Gaussian fields with given periodic covariances
# exactly. The gradient is for what that formula does not cover, as here: a part of the lags, measured on a map that
# is not periodic and has holes.
