"""From a scan in any grid to foreground probability and entropy in that same grid."""

from fair_strategy.data.volumes import Volume
from fair_strategy.learning.checkpoint import Model
from fair_strategy.learning.prediction import Prediction
from fair_strategy.learning.steps import aim, finish, localise, look, segment


def predict(model: Model, volume: Volume, *, passes: int = 1, seed: int = 0) -> Prediction:
    """The model's prediction for one scan, in the scan's own grid.

    Args:
        model: see checkpoint.load_model.
        volume: `array` (I, J, K) and `affine` (4, 4), voxel -> RAS mm; any orientation,
            obliqueness and spacing. Not changed.
        passes: 1 is deterministic; more are passes with dropout (Gal and Ghahramani 2016).
        seed: of the dropout; the same seed gives the same prediction.
    Raises:
        ValueError: if passes is below 1 or the array has not three axes.
    """
    if passes < 1:
        raise ValueError(f"passes: expected at least 1, got {passes}")
    looked = look(model, volume)
    aimed = aim(model, looked, *localise(model, [looked]))
    [found] = segment(model, [aimed], passes=passes, seed=seed)
    return finish(model, aimed, found, passes=passes, seed=seed)
