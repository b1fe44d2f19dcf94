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
# # Three maps to a periodic DAMASK model
#
# Three orthogonal EBSD maps are all there is; a crystal-plasticity simulation wants a periodic 3D volume that is
# statistically like the material. The two-point statistics of the maps become targets, a diffusion prior draws a
# volume, and after every step the volume is moved back onto the targets. The result goes into files for the DAMASK
# grid solver.
#
# **A limit to know first.** The shipped prior is small. It refines what interpolation begins, but it does not yet
# make crystals out of noise: the drawn volumes have the right statistics and blurred grains. This notebook measures
# how blurred, shows what a simple repair costs, and no number here is hidden in the text.

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
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np

import polymicros_jax as pm
from polymicros_jax.conditioners.slice_targets import slice_targets
from polymicros_jax.conditioners.two_point import plane_covariances
from polymicros_jax.data.export import write_damask
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.expansion import FAR
from polymicros_jax.orientation import grains
from polymicros_jax.viz import correlations

# %% [markdown]
# Settings. For your own maps put `pm.read("map_z.ang", frame="edax")` and its like into `maps`; the key is the axis
# a map is normal to. Each side of `SHAPE` is a multiple of 8, the stride of the shipped network.

# %% tags=["parameters"]
SHAPE = (24, 24, 24)
STEPS, BUDGET = 12, 50  # noise levels; gradient evaluations of the matching after each
START = 1.0  # noise level at which the draw leaves a random field
FOLDER = Path("runs/maps_to_damask")

# %%
region = pm.load_sample("in100", "evaluate").crop((0, 30, 4), (36, 66, 40))
middle = [n // 2 for n in region.shape]
maps = {}
for number, axis in enumerate("xyz"):
    start, stop = [0, 0, 0], list(region.shape)
    start[number], stop[number] = middle[number], middle[number] + 1
    maps[axis] = region.crop(start, stop)
pm.plot(region, title="The three maps")

# %% [markdown]
# ## Targets from the maps alone
#
# In the nine channels of `gsh4` a polycrystal is a vector field; its two-point covariances say how alike two points
# are as a function of the vector between them. Three single maps are small samples that contradict each other a
# little, so that in general *no* volume has exactly their statistics. `slice_targets` finds the nearest ones that
# some volume of crystals has; the misfit it reports is that of the maps, not of the model.

# %%
kind, prior = pm.representation("gsh4"), pm.load_prior("compact_gsh4")
sections = {axis: np.asarray(kind.encode(each.quaternions)).squeeze("xyz".index(axis)) for axis, each in maps.items()}
key = jax.random.key(0)
target_key, _ = jax.random.split(key)  # `expand` makes its targets with this key: these are the same
targets = slice_targets(target_key, sections, SHAPE, kind=kind)
variance = float(np.mean([np.trace(plane[0, 0]) / kind.channels for plane in targets.planes.values()]))
print(f"variance {variance:.3f}; maps less the nearest statistics of crystals, root mean square: {targets.misfit:.4f}")

# %% [markdown]
# ## Draw

# %%
field = pm.expand(key, prior, sections, SHAPE, steps=STEPS, start=START, budget=BUDGET)[0]


def largest_error(field):
    """Largest absolute difference to the targets on the three planes."""
    found = plane_covariances(field)
    return max(float(jnp.abs(found[axis] - targets.planes[axis]).max()) for axis in found)


matched = largest_error(field)
print(f"largest error on the planes {matched:.5f}, {100 * matched / variance:.2f} % of the variance")
correlations.orthogonal_planes(
    {"target": targets.planes, "drawn": plane_covariances(field)},
    pairs=[(0, 0), (1, 1), (0, 1)],
    spacing=region.spacing,
    label="covariance",
)

# %% [markdown]
# ## Is it a polycrystal?
#
# The channels of a crystal lie on a curved surface. A voxel far from it, by more than 15 % of the surface's radius,
# is a mixture of crystals and not one. This is the blur. It can be seen: the colours of `decode` are those of the
# *nearest* crystal, so mixtures look like a patchwork of small grains.

# %%
quaternions, distance = kind.decode(field)
off_manifold = float(np.mean(np.asarray(distance) > FAR * 3 * prior.sigma_data))
print(f"{100 * off_manifold:.0f} % of the voxels are no crystal")
pm.plot(quaternions, spacing=region.spacing, title="Drawn, decoded")

# %% [markdown]
# ## A repair, and its price
#
# A solver needs one orientation in every voxel and grains of more than a few voxels. So every voxel takes the
# orientation that fits it best among those of the maps, twice averaged with its neighbours. All voxels are then
# crystals; the statistics are no longer matched, and the error printed here is what the repair costs.

# %%
palette = np.concatenate([each.quaternions[each.mask] for each in maps.values()])
palette = np.unique(palette.round(4), axis=0)
palette /= np.linalg.norm(palette, axis=1, keepdims=True)
colours = jnp.asarray(kind.encode(palette))
smooth = field
for _ in range(2):
    for axis in range(3):
        smooth = 0.5 * smooth + 0.25 * (jnp.roll(smooth, 1, axis) + jnp.roll(smooth, -1, axis))
choice = np.asarray(jnp.argmax(smooth @ colours.T, axis=-1))  # all crystals are equally long vectors
repaired = palette[choice].astype(np.float32)
after_repair = largest_error(kind.encode(repaired))
labels = grains.segment(repaired, group=kind.group, periodic=True)
print(f"largest error on the planes {after_repair:.3f}, {100 * after_repair / variance:.0f} % of the variance")
print(f"{labels.max() + 1} grains, mean {labels.size / (labels.max() + 1):.0f} voxels")
pm.plot(repaired, spacing=region.spacing, title="Repaired")

# %% [markdown]
# ## Files for DAMASK
#
# A geometry in metres and a material configuration. Neither lattice nor constitutive law are in a scan: here the
# elastic constants of pure nickel stand for the superalloy. A voxel and its partner on the opposite face are
# neighbours, and grains run through the faces.

# %%
model = OrientationVolume(
    quaternions=repaired,
    phase=np.ones(SHAPE, np.int32),
    mask=np.ones(SHAPE, bool),
    spacing=region.spacing,
    symmetry=kind.group,
    frame=region.frame,
    provenance={**region.provenance, "expanded from": "three maps"},
)
nickel = {
    "lattice": "cF",
    "mechanical": {
        "output": ["F", "P"],
        "elastic": {"type": "Hooke", "C_11": 246.5e9, "C_12": 147.3e9, "C_44": 124.7e9},
    },
}
FOLDER.mkdir(parents=True, exist_ok=True)
geometry, material = write_damask(model, FOLDER / "geometry.vti", grains=labels, phases={"Nickel": nickel})
print(geometry, material)

# %% [markdown]
# Read back by DAMASK's own library, where it is installed (`pip install damask`).

# %%
if importlib.util.find_spec("damask"):
    import damask

    print(damask.GeomGrid.load(geometry))
    configuration = damask.ConfigMaterial.load(material)
    print(f"complete: {configuration.is_complete}, {len(configuration['material'])} materials")

# %% [markdown]
# What to take from this: the chain from maps to a solver's input works and the statistics are matched as far as maps
# allow, *before* the repair. Whether the grains are those of your material is the question of the prior, and with
# the shipped one the answer is no. A prior trained longer, or on your material (see the notebook on local models),
# is put in by its path: `pm.load_prior("runs/mine/mine.safetensors")`.
