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
# # Write your own conditioner
#
# A diffusion prior knows what the material looks like; a conditioner tells it what is asked for, without any
# training. There are two kinds, and each is a small class:
#
# - a **projection** acts on the state after each step of the sampler and can hold a constraint *exactly*;
# - a **guide** wraps the denoiser and pulls its estimates.
#
# Here: a sheet whose texture changes through its thickness (projection), and a pull towards crystals (guide),
# because what the small shipped prior draws from noise is blurred. (The package has a more careful one,
# `polymicros_jax.conditioners.crystals`; here it is written from nothing.)

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
import flax.struct
import jax
import jax.numpy as jnp

import polymicros_jax as pm
from polymicros_jax.diffusion.conditioning import Guide, Projection, guided
from polymicros_jax.diffusion.sampler import sample
from polymicros_jax.diffusion.schedule import karras
from polymicros_jax.expansion import FAR
from polymicros_jax.orientation import quaternion
from polymicros_jax.viz import canvas

# %% tags=["parameters"]
SHAPE = (24, 24, 24)
STEPS = 12

# %% [markdown]
# ## The projection
#
# The mean of the nine `gsh4` channels over a region *is* its texture, as far as harmonics of degree 4 go. So a
# texture gradient is a mean for every layer, and the state is shifted, layer by layer, until it has it. The class
# owns its observation as a leaf of a pytree: a new profile of the same shape costs no new compilation. `step` tells
# the index of the step, the noise level and gives a key; this projection needs none of them. It runs after the last
# step too, which is why the constraint is exact in the result.


# %%
@flax.struct.dataclass
class LayerTexture:
    """Holds the mean of the channels in each layer normal to z at `profile` (nz, h), where `active` is 1."""

    profile: jax.Array
    active: jax.Array | float = 1.0

    def __call__(self, x, step):
        missing = self.profile - jnp.mean(x, axis=(0, 1))
        return x + self.active * missing[None, None, :, :]


# %% [markdown]
# ## The guide
#
# It takes a denoiser and returns one. The estimate of the clean field is moved a part of the way to its nearest
# crystals; at high noise, where the estimate rightly is an average over all that is possible, it is left alone.


# %%
kind = pm.representation("gsh4")


@flax.struct.dataclass
class TowardsCrystals:
    """Moves the denoiser's estimate towards the nearest orientations, by `strength` at low noise."""

    strength: jax.Array | float

    def __call__(self, denoise):
        def pulled(x, sigma):
            clean = denoise(x, sigma)
            crystals = kind.encode(kind.decode(clean)[0])
            return clean + self.strength / (1.0 + (sigma / 0.5) ** 2) * (crystals - clean)

        return pulled


# %% [markdown]
# ## What is asked for
#
# The lower half of the sheet leans towards one crystal, the upper half towards the same turned by 45 degrees about
# x; the faces meet periodically. A mean of 0.6 of a crystal's length is a strong texture, one of 1 would be a single
# crystal.

# %%
cube = jnp.array([1.0, 0.0, 0.0, 0.0])
turned = quaternion.from_euler(jnp.array([0.0, jnp.pi / 4, 0.0]))
height = jnp.arange(SHAPE[2]) / SHAPE[2]
weight = 0.5 - 0.5 * jnp.cos(2 * jnp.pi * height)
profile = 0.6 * ((1 - weight)[:, None] * kind.encode(cube)[None, :] + weight[:, None] * kind.encode(turned)[None, :])
texture, crystals = LayerTexture(profile), TowardsCrystals(0.7)
assert isinstance(texture, Projection)
assert isinstance(crystals, Guide)

# %% [markdown]
# ## Draw
#
# The sampler is a pure function: prior, projection and guide go in as arguments. Four draws of one key, with and
# without each of the two, use one compiled program. Several projections compose with
# `diffusion.conditioning.compose(first, second)`; the last one wins.


# %%
@jax.jit
def draw(key, prior, projection, guide):
    """One periodic volume from pure noise."""
    denoise = guided(prior.denoiser("periodic"), [guide])
    return sample(key, denoise, jnp.zeros((*SHAPE, kind.channels)), karras(STEPS), condition=projection)


prior, key = pm.load_prior("compact_gsh4"), jax.random.key(0)
off, loose = LayerTexture(profile, 0.0), TowardsCrystals(0.0)
fields = {
    "prior alone": draw(key, prior, off, loose),
    "guide": draw(key, prior, off, crystals),
    "projection": draw(key, prior, texture, loose),
    "projection and guide": draw(key, prior, texture, crystals),
}

# %% [markdown]
# The first column is the largest deviation from the profile: with the projection it is round-off. The second is the
# share of voxels that are no crystal, the blur. The guide lowers it and cannot know which crystals are right: it
# makes grains crisp, not true.

# %%
texture_error, far = {}, {}
for name, field in fields.items():
    texture_error[name] = float(jnp.abs(field.mean(axis=(0, 1)) - profile).max())
    far[name] = float(jnp.mean(kind.decode(field)[1] > FAR * 3 * prior.sigma_data))
    print(f"{name:<21} largest error of the profile {texture_error[name]:.1e}, no crystal {100 * far[name]:5.1f} %")

# %%
drawing = canvas.figure(5.0, 2.8)
axes = drawing.subplots()
axes.plot(profile[:, 0], "k--", label="asked for")
for name in ("prior alone", "projection and guide"):
    axes.plot(fields[name].mean(axis=(0, 1))[:, 0], label=name)
axes.set_xlabel("layer")
axes.set_ylabel("mean of channel 0")
axes.legend()
drawing

# %%
pm.plot(kind.decode(fields["prior alone"])[0], title="Prior alone")

# %%
pm.plot(kind.decode(fields["projection and guide"])[0], title="Projection and guide")

# %% [markdown]
# A projection that fights the prior leaves traces: here the shift of a layer is the same for all its voxels, so it
# takes them off the crystals and the next step of the sampler has to bring them back, and after the last step
# nothing does. Exactness has that price. To be close to the profile and closer to crystals, stop the projection
# before the end: `jnp.where(step.index < 0.75 * step.count, shifted, x)`, which is what `conditioners.known_voxels`
# does.
