"""Stock `epistemic_v2` on our segmenter, set up as leanly as MONAI Label allows.

No cropping by a localiser: stock scoring slides over the whole scan. No label map before the
entropy (the sample apps take an argmax first, which makes it meaningless), no inversion, no file.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.inferers import Inferer, SlidingWindowInferer
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    ScaleIntensityRangePercentilesd,
    Spacingd,
    SqueezeDimd,
)

from fair_strategy.learning.checkpoint import Model

with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    from monailabel.datastore.local import LocalDatastore
    from monailabel.interfaces.tasks.infer_v2 import InferType
    from monailabel.tasks.infer.basic_infer import BasicInferTask
    from monailabel.tasks.scoring.epistemic_v2 import EpistemicScoring


class StochasticCaudate(BasicInferTask):
    """The segmenter with its dropout on."""

    def __init__(self, model: Model) -> None:
        super().__init__(
            path=None,
            network=model.network,
            type=InferType.SEGMENTATION,
            labels=dict(model.labels),
            dimension=3,
            description="left caudate",
            train_mode=True,
            skip_writer=True,
        )
        self.model = model

    def pre_transforms(self, data: dict[str, Any] | None = None) -> Sequence[Callable[..., Any]]:
        """To the model's grid and intensities."""
        return [
            LoadImaged(keys="image"),
            EnsureChannelFirstd(keys="image"),
            Orientationd(keys="image", axcodes="RAS"),
            Spacingd(keys="image", pixdim=[self.model.spacing_mm] * 3),
            ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0.0, 1.0, clip=True),
        ]

    def inferer(self, data: Mapping[str, Any] | None = None) -> Inferer:
        """Windows as the model was trained on, with MONAI's usual overlap."""
        return SlidingWindowInferer(self.model.window, sw_batch_size=1, overlap=0.25)

    def inverse_transforms(self, data: Mapping[str, Any] | None = None) -> None:
        """None: the entropy is averaged anyway."""
        return None

    def post_transforms(self, data: Mapping[str, Any] | None = None) -> list[Callable[..., Any]]:
        """Probabilities."""
        return [Activationsd(keys="pred", softmax=True)]


class Caudate(StochasticCaudate):
    """The same without dropout, for a reader: a file with the mask on the scan's own grid."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.train_mode = self.skip_writer = False

    def inverse_transforms(self, data: Mapping[str, Any] | None = None) -> list[Any]:
        """All."""
        return []

    def post_transforms(self, data: Mapping[str, Any] | None = None) -> list[Callable[..., Any]]:
        """The likeliest class."""
        return [AsDiscreted(keys="pred", argmax=True), SqueezeDimd(keys="pred", dim=0)]


def stock_scores(model: Model, scans: Sequence[Path], folder: Path) -> list[float]:
    """The stock score of each scan, which are linked into a flat folder, by name."""
    folder.mkdir()
    for scan in scans:
        (folder / scan.name).symlink_to(scan.resolve())
    store = LocalDatastore(str(folder))
    scoring = EpistemicScoring(StochasticCaudate(model), simulation_size=5)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        scoring({"device": "cpu", "max_workers": 1}, store)
    finally:
        logging.disable(level)
    names = sorted(store.list_images())
    return [float(store.get_image_info(name)["epistemic_entropy"]) for name in names]
