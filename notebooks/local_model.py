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
# # Train a local model on my material
#
# A local model knows one material: its grain shapes, its misorientations. This notebook trains a small one from
# nothing on part of a measured volume and watches the error on a part it never sees. It shows the whole way, from
# scan to weights with a card, in about two minutes; two minutes on two cores do not make a good prior. For real use
# start from the shipped weights: `configs/local_model.py` fine-tunes them on a scan in forty minutes.

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
import json
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

import polymicros_jax as pm
from polymicros_jax.data import repair
from polymicros_jax.data.patches import MemoryFields, cube_symmetries, grid_of_patches
from polymicros_jax.models import unet3d
from polymicros_jax.orientation import ipf
from polymicros_jax.train import train
from polymicros_jax.training.augment import texture_rotation
from polymicros_jax.training.ema import EmaLaw
from polymicros_jax.training.metrics import relative_errors, root_mean_square
from polymicros_jax.training.prior import Prior, save_prior
from polymicros_jax.training.step import Optimisation
from polymicros_jax.viz import canvas, slices

# %% [markdown]
# Settings. `SCAN` and `FRAME` as in the notebook on reconstruction.

# %% tags=["parameters"]
SCAN, FRAME = None, None
NETWORK = unet3d.UNet3DConfig(channels=9, width=32, multipliers=(2,), patch=2, blocks=1)
PATCH, BATCH, STEPS = 16, 8, 250
FOLDER = Path("runs/local_model")

# %% [markdown]
# ## Data
#
# The first two thirds along x are for training, the last third is held out; two voxels between belong to neither.
# Voxels that were not indexed take the nearest orientation. Channels stay as they are: no mean is taken off, no
# scale applied.

# %%
volume = pm.load_sample("al1050") if SCAN is None else pm.read(SCAN, frame=FRAME)
volume = repair.fill(volume)
kind = pm.representation("gsh4")
field = np.asarray(kind.encode(volume.quaternions), np.float32)
cut = 2 * field.shape[0] // 3
source, held_out = MemoryFields((field[: cut - 1],)), MemoryFields((field[cut + 1 :],))
validation = grid_of_patches(held_out, size=PATCH, stride=2 * PATCH)
print(f"{volume.provenance.get('material', SCAN)}: {source.shapes[0]} to train on, {len(validation)} held-out patches")
pm.plot(volume, title="The material")

# %% [markdown]
# ## Train
#
# Patches are cut at random and turned by the 48 symmetries of the grid; their crystals are turned by a random
# rotation, so that the model favours no orientation. The network learns to take off noise of every level. `train`
# writes checkpoints and a log; called again with the same folder it goes on where it stopped.

# %%
# Compiled as one program: op by op it takes far longer.
params = jax.jit(unet3d.init, static_argnums=1)(jax.random.key(0), NETWORK)
initial = Prior(params, NETWORK, root_mean_square(field), kind.name)
FOLDER.mkdir(parents=True, exist_ok=True)
workdir = Path(tempfile.mkdtemp(dir=FOLDER))
local, account = train(
    workdir,
    initial,
    source,
    Optimisation(steps=STEPS, batch=BATCH, learning_rate=4e-3, warmup=STEPS // 10, ema=EmaLaw(power=9.0)),
    seed=0,
    patch=PATCH,
    symmetries=cube_symmetries(kind.sample_rotation),
    rotate=texture_rotation(kind),
    validation=validation,
    validate_every=max(STEPS // 4, 1),
    log_every=max(STEPS // 25, 1),
)
print(f"{unet3d.parameter_count(params):,} parameters")

# %% [markdown]
# ## Did it learn?
#
# The error of the denoised field on held-out patches, relative to the field, at three levels of noise. *Doing
# nothing* leaves the noise; *answering zero* gives 1. A model is of use where it is well below both.

# %%
levels = ("0.2", "0.4", "0.8")
before = relative_errors(initial, validation)
after = account["relative_error"]
scale = root_mean_square(validation)
for level in levels:
    nothing = float(level) / scale
    print(f"noise {level}: doing nothing {nothing:.2f}, before {before[level]:.3f}, trained {after[level]:.3f}")

# %%
lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
drawing = canvas.figure(7.0, 2.6)
left, right = drawing.subplots(1, 2)
left.semilogy([each["step"] for each in lines if "loss" in each], [each["loss"] for each in lines if "loss" in each])
left.set_xlabel("step")
left.set_ylabel("training loss")
curve = [each for each in lines if "relative_error" in each]
for level in levels:
    errors = [before[level], *(each["relative_error"][level] for each in curve)]
    right.plot([0, *(each["step"] for each in curve)], errors)
right.legend([f"noise {level}" for level in levels])
right.set_xlabel("step")
right.set_ylabel("held-out error")
drawing

# %% [markdown]
# A held-out patch: clean, with noise 0.4, and denoised. Every voxel in the colour of its nearest crystal.

# %%
clean = jnp.asarray(validation[len(validation) // 2])
noisy = clean + 0.4 * jax.random.normal(jax.random.key(1), clean.shape)
denoised = jax.jit(lambda prior, x: prior.denoiser()(x, 0.4))(local, noisy)
slices.comparison(
    [
        slices.Panel(name, np.asarray(ipf.colours(kind.decode(each)[0], "z")))
        for name, each in {"clean": clean, "noise 0.4": noisy, "denoised": denoised}.items()
    ],
    axis=2,
    spacing=volume.spacing,
)

# %% [markdown]
# ## Keep it
#
# Weights and a card that says what they are. From now on its path does what the name of the shipped prior does, in
# every function and config: `pm.super_resolve(key, pm.load_prior(path), ...)`, `--config.super_resolve.prior=path`.

# %%
weights, card = save_prior(FOLDER / "mine.safetensors", local, account)
mine = pm.load_prior(weights)
print(weights, card)
print(f"{mine.representation}, grids in multiples of {mine.network.stride} voxels")
