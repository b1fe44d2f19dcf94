"""From a config to the objects of a run. Nothing below this package sees a config.

Everything that can be wrong with a config is found here, before any long work starts.
"""

from polymicros_jax.experiment.chain import stages
from polymicros_jax.experiment.evaluation import Conversion, Evaluation, conversion, evaluation
from polymicros_jax.experiment.generation import cluster, generation
from polymicros_jax.experiment.reconstruction import Expansion, Reconstruction, expansion, reconstruction
from polymicros_jax.experiment.training import Training, training

__all__ = [
    "Conversion",
    "Evaluation",
    "Expansion",
    "Reconstruction",
    "Training",
    "cluster",
    "conversion",
    "evaluation",
    "expansion",
    "generation",
    "reconstruction",
    "stages",
    "training",
]
