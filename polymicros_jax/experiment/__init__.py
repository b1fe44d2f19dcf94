"""From a config to the objects of a run. Nothing below this package sees a config.

Everything that can be wrong with a config is found here, before any long work starts.
"""

from polymicros_jax.experiment.assessment import Diversity, Realism, diversity, realism
from polymicros_jax.experiment.chain import stages
from polymicros_jax.experiment.conversion import Conversion, conversion
from polymicros_jax.experiment.evaluation import Evaluation, evaluation
from polymicros_jax.experiment.generation import cluster, generation
from polymicros_jax.experiment.reconstruction import Expansion, Reconstruction, expansion, reconstruction
from polymicros_jax.experiment.training import Training, training

__all__ = [
    "Conversion",
    "Diversity",
    "Evaluation",
    "Expansion",
    "Realism",
    "Reconstruction",
    "Training",
    "cluster",
    "conversion",
    "diversity",
    "evaluation",
    "expansion",
    "generation",
    "realism",
    "reconstruction",
    "stages",
    "training",
]
