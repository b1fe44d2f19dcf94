"""One optimisation step of a prior: pure, jitted, sharded over a mesh of devices."""

import dataclasses
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from polymicros_jax.diffusion.loss import EDM_NOISE, NoiseLaw, edm_loss
from polymicros_jax.models.unet3d import UNet3DConfig
from polymicros_jax.training.ema import SLOW_EMA, EmaLaw, update
from polymicros_jax.training.mesh import patch_sharding, replicated
from polymicros_jax.training.prior import Prior
from polymicros_jax.types import Key, Params


@dataclasses.dataclass(frozen=True)
class Optimisation:
    """Hyper-parameters of a training.

    Attributes:
      steps: optimiser steps in all; the learning rate decays over them.
      batch: patches per optimiser step.
      accumulate: parts the batch is computed in, one after the other; must divide ``batch``. Part a of k takes the rows
        a, a + k, a + 2k, ...: each device finds its share of every part among its own rows.
      learning_rate: at the end of the warm-up.
      warmup: steps of linear rise.
      final_rate: share of the learning rate left at the last step of the cosine decay; 1 keeps it constant.
      weight_decay: decoupled.
      clip: largest norm of the gradient.
      beta2: decay of the squared gradients in Adam.
      noise: law of the training noise.
      ema: law of the average that is kept as the prior.
    """

    steps: int
    batch: int
    accumulate: int = 1
    learning_rate: float = 1e-4
    warmup: int = 100
    final_rate: float = 0.01
    weight_decay: float = 1e-5
    clip: float = 10.0
    beta2: float = 0.999
    noise: NoiseLaw = EDM_NOISE
    ema: EmaLaw = SLOW_EMA

    def __post_init__(self) -> None:
        """Refuses a training without a step, and a batch that cannot be split as asked."""
        for name in ("steps", "batch", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: at least 1")
        if self.batch % self.accumulate:
            raise ValueError(f"batch = {self.batch}, accumulate = {self.accumulate}: the first must be a multiple")

    def schedule(self) -> optax.Schedule:
        """Learning rate as a function of the step."""
        return optax.warmup_cosine_decay_schedule(
            init_value=0.0,
            peak_value=self.learning_rate,
            warmup_steps=min(self.warmup, self.steps - 1),
            decay_steps=self.steps,
            end_value=self.learning_rate * self.final_rate,
        )

    def optimiser(self) -> optax.GradientTransformation:
        """Adam with decoupled weight decay, clipping and the schedule above."""
        return optax.chain(
            optax.clip_by_global_norm(self.clip),
            optax.adamw(self.schedule(), b2=self.beta2, weight_decay=self.weight_decay),
        )


@flax.struct.dataclass
class TrainState:
    """Everything a training carries from step to step."""

    step: jax.Array
    params: Params
    ema: Params
    optimiser: optax.OptState


def create_state(params: Params, optimisation: Optimisation) -> TrainState:
    """State before the first step; the average starts at the parameters. The step consumes copies, never ``params``.

    >>> state = create_state({"w": jnp.ones(3)}, Optimisation(steps=100, batch=8))
    >>> int(state.step), state.params["w"].tolist()
    (0, [1.0, 1.0, 1.0])
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=jax.tree.map(jnp.copy, params),
        ema=jax.tree.map(jnp.copy, params),
        optimiser=optimisation.optimiser().init(params),
    )


def build_step(
    network: UNet3DConfig,
    sigma_data: float,
    representation: str,
    optimisation: Optimisation,
    key: Key,
    *,
    sigma_skip: float | None = None,
    rotate: Callable[[Key, Array], Array] | None = None,
    mesh: Mesh | None = None,
) -> Callable[[TrainState, jax.Array], tuple[TrainState, dict[str, jax.Array]]]:
    """The jitted step ``(state, patches) -> (state, metrics)``.

    Args:
      network: architecture.
      sigma_data: scale of the preconditioning.
      representation: name of the channels.
      optimisation: hyper-parameters.
      key: of the run; step t uses ``fold_in(key, t)``.
      sigma_skip: see `diffusion.preconditioning.denoiser`.
      rotate: augmentation on the device, ``(key, patches) -> patches``.
      mesh: from `mesh.build_mesh`; the patches are split over it as `mesh.patch_sharding` says, parameters and state
        lie whole on every device. Without one everything runs on one device.

    Returns:
      A function that consumes its state (the buffers are donated). Metrics: "loss", "gradient_norm".
    """
    optimiser = optimisation.optimiser()

    def loss(params: Params, key: Key, patches: Float[Array, "b nx ny nz h"]) -> Float[Array, ""]:
        prior = Prior(params, network, sigma_data, representation, sigma_skip)
        return edm_loss(key, prior.denoiser(), patches, optimisation.noise, sigma_data)

    def step(state: TrainState, patches: Float[Array, "b nx ny nz h"]) -> tuple[TrainState, dict[str, jax.Array]]:
        rotate_key, loss_key = jax.random.split(jax.random.fold_in(key, state.step))
        if rotate is not None:
            patches = rotate(rotate_key, patches)
        parts = patches.reshape(-1, optimisation.accumulate, *patches.shape[1:])

        def add_part(number: Array | int, total: tuple[Array, Params]) -> tuple[Array, Params]:
            portion = parts[:, number]
            part = jax.value_and_grad(loss)(state.params, jax.random.fold_in(loss_key, number), portion)
            return jax.tree.map(jnp.add, total, part)

        total = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.params))
        if jax.default_backend() == "cpu":
            # In a loop the gradient of a kernel misses XLA's fast convolution on CPU (measured: 12 to 18 times slower).
            for number in range(optimisation.accumulate):
                total = add_part(number, total)
        else:
            total = jax.lax.fori_loop(0, optimisation.accumulate, add_part, total)
        value, gradient = jax.tree.map(lambda leaf: leaf / optimisation.accumulate, total)
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        kept = optimisation.ema.kept(state.step + 1)
        new = TrainState(
            step=state.step + 1,
            params=params,
            ema=update(state.ema, params, kept),
            optimiser=optimiser_state,
        )
        return new, {"loss": value, "gradient_norm": optax.global_norm(gradient)}

    if mesh is None:
        return jax.jit(step, donate_argnums=0)
    everywhere, split = replicated(mesh), patch_sharding(mesh)
    return jax.jit(step, donate_argnums=0, in_shardings=(everywhere, split), out_shardings=everywhere)
