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
# # Reconstruct my scan
#
# A 3D EBSD scan is a stack of sections, and each section takes hours. Here only every fourth section is given and
# the ones between are filled, with a statement of how sure each filled voxel is. The volume is a measured nickel
# superalloy whose missing sections *were* measured, so every method can be scored; put your own scan in its place
# below.

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
import dataclasses
import time

import jax
import numpy as np

import polymicros_jax as pm
from polymicros_jax import filling_methods, scoring
from polymicros_jax.data import masks
from polymicros_jax.orientation import grain_posterior, ipf, uncertainty
from polymicros_jax.orientation import posterior_uncertainty as certainty
from polymicros_jax.orientation.candidates import candidates
from polymicros_jax.orientation.snapping import snap
from polymicros_jax.training.calibration import load_calibration
from polymicros_jax.viz import slices

# %% [markdown]
# Settings. `SCAN` may be a file (`.ang .ctf .cpr .dream3d .h5oina .h5ebsd .h5 .npz`) or a folder of sections
# `DISTANCE` micrometres apart. Files do not say in which frame their Euler angles are, so `FRAME` must: `"edax"`,
# `"oxford"` or `"none"`.

# %% tags=["parameters"]
SCAN, FRAME, DISTANCE = None, None, None
START, STOP = (0, 30, 20), (32, 62, 53)  # the region, in voxels
EVERY = 4  # one section in so many is known
DRAWS, STEPS = 3, 24
FOLDER = Path("runs/reconstruct")

# %% [markdown]
# ## What is known
#
# Grey and hatched: missing. For a stack that really is sparse, `masks.insert_slices(volume, "z", 4)` makes the empty
# sections and `known` is the mask of its result; the scores below then have nothing to compare with.

# %%
volume = pm.load_sample("in100", "evaluate") if SCAN is None else pm.read(SCAN, frame=FRAME, slice_spacing=DISTANCE)
truth = volume.crop(START, STOP)
known = masks.require_meaning(masks.every_slice(truth.shape, "z", EVERY), truth.mask)
print(f"{truth.shape} voxels of {truth.spacing[0]:.3g} µm, {100 * known.mean():.0f} % known")
pm.plot(truth, known=known, title="Input")

# %% [markdown]
# ## Without a model
#
# Copying the nearest section, linear interpolation, great circles, and shape-based interpolation, which moves the
# outline of each grain from one section to the next. The last one is strong: it is the bar for the prior.

# %%
kind = pm.representation("gsh4")
filled = filling_methods.baselines(truth.quaternions, known, kind)
print(", ".join(filled))

# %% [markdown]
# ## With the shipped prior
#
# A diffusion model of nine harmonic channels, trained on other parts of two specimens. A draw starts from the
# interpolated shapes at noise level 0.5 and is denoised while the known sections hold it. A voxel of a draw then
# takes the nearest measured orientation (`snap`), because a grain in a gap is nearly always seen beside it. The
# estimate is, voxel by voxel, the draw nearest to the others.

# %%
began = time.perf_counter()
channels = np.asarray(kind.encode(truth.quaternions))
found = candidates(truth.quaternions, known, kind.group, spacing=truth.spacing)
draws = pm.super_resolve(
    jax.random.key(0),
    pm.load_prior("compact_gsh4"),
    channels,
    known,
    draws=DRAWS,
    steps=STEPS,
    start=0.5,
    guess=kind.encode(grain_posterior.regularised(found)),
)
crystals = np.stack([kind.decode(snap(each, channels, known, EVERY - 1))[0] for each in draws])
estimate = np.where(known[..., None], truth.quaternions, uncertainty.medoid(crystals, kind.group)[0])
filled["diffusion prior"] = filling_methods.Filled(estimate, time.perf_counter() - began)

# %% [markdown]
# ## How sure
#
# Each missing voxel is a choice among the measured grains around it. A model with three weights, fitted once on
# another specimen, turns the shapes, their neighbourhood and the draws into probabilities. *Shapes, regularised* is
# the same model without the draws: the difference between the two rows is what the prior adds, and it may be small.

# %%
entry = load_calibration("compact_gsh4").nearest(found.gap)
terms = grain_posterior.features(found, ~known, draws, kind.group)
filled |= filling_methods.fuse_both(found, terms, known, entry)
rows = scoring.score(truth, known, filled)
print(scoring.text_table("Missing voxels only", rows))

# %% [markdown]
# Degrees of disorientation over all equivalent descriptions of the crystal. Inside grains every method is nearly
# exact; the mean is made by the voxels put into the wrong grain. This region is small: README has the whole one.

# %%
result = filled[filling_methods.FUSED]
errors = {
    name: np.asarray(uncertainty.disorientation_map(truth.quaternions, each.quaternions, kind.group))
    for name, each in filled.items()
}
shown = ("nearest slice", "shape-based", "diffusion prior", filling_methods.FUSED)
panels = [
    slices.Panel("measured", np.asarray(ipf.colours(truth.quaternions, "z")), truth.mask),
    slices.Panel("input", np.asarray(ipf.colours(truth.quaternions, "z")), known),
    *(slices.Panel(name, np.asarray(ipf.colours(filled[name].quaternions, "z"))) for name in shown),
]
slices.comparison(panels, axis=0, spacing=truth.spacing)

# %%
slices.degree_maps({name: errors[name] for name in shown}, axis=0, spacing=truth.spacing, known=known, columns=2)

# %% [markdown]
# ## Can the confidence be believed?
#
# A filled voxel counts as right within 5 degrees of what was measured. Where the stated confidence is honest, the
# two numbers of a line agree; on a region this small they scatter by several percent.

# %%
missing = ~known & truth.mask
stated = np.ones(known.shape, np.float32)
stated[~known] = result.posterior.probability.max(axis=1)
spread = np.zeros(known.shape, np.float32)
spread[~known] = certainty.spread(result.posterior.probability, result.posterior.quaternions, kind.group)
right = errors[filling_methods.FUSED] < 5.0
reliability = {}
for low, high in ((0.0, 0.6), (0.6, 0.8), (0.8, 0.95), (0.95, 1.01)):
    group = missing & (stated >= low) & (stated < high)
    if group.any():
        reliability[low] = (float(stated[group].mean()), float(right[group].mean()), int(group.sum()))
        print(f"said {100 * reliability[low][0]:.0f} %, right {100 * reliability[low][1]:.0f} %, {group.sum()} voxels")
slices.degree_maps(
    {"spread it states": spread, "error it makes": errors[filling_methods.FUSED]},
    axis=0,
    spacing=truth.spacing,
    known=known,
)

# %% [markdown]
# ## Take it with you
#
# For ParaView (`.vti`, all fields as cell arrays), for DREAM.3D and for Python.

# %%
FOLDER.mkdir(parents=True, exist_ok=True)
reconstruction = dataclasses.replace(
    truth,
    quaternions=result.quaternions,
    mask=np.ones_like(known),
    phase=np.maximum(truth.phase, 1),
    fields={"known": known, "grain_probability": stated, "spread_deg": spread},
    provenance={**truth.provenance, "reconstruction": "missing sections filled with polymicros_jax"},
)
for name in ("reconstruction.vti", "reconstruction.dream3d", "reconstruction.npz"):
    print(pm.write(reconstruction, FOLDER / name))
