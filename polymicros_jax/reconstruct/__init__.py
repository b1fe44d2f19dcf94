"""Zero-shot reconstruction with an unconditional prior: filling gaps in 3D, and growing 3D volumes from 2D maps.

`super_resolve` fills the unknown voxels of a field (PolyMicros Sec. 5, App. D.1); `expand` draws volumes with the
two-point statistics of two-dimensional maps (App. D.2). Both start from pure noise as the paper does, or warm: from a
classical guess at a chosen noise level (SDEdit), which leaves the coarse structure to the guess and the boundaries to
the prior. Fields go in as the prior was trained on them: no mean is taken off and no scale applied here.
"""

from polymicros_jax.reconstruct.filling import super_resolve
from polymicros_jax.reconstruct.growing import expand

__all__ = ["expand", "super_resolve"]
