"""Look-alikes: the published layout, the same bytes again, the effect that is told."""

import csv
import hashlib

import numpy as np
import pytest

from fair_strategy.data.lookalikes import make_lookalike
from fair_strategy.data.volumes import read_image, read_labels


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def digest(folder):
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        found.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return found.hexdigest()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return {n: make_lookalike(n, folder / n, cases=24, seed=2) for n in ("isic", "brats", "adni")}


@pytest.mark.parametrize("name", ["isic", "adni"])
def test_a_seed_gives_the_same_bytes_and_another_others(made, tmp_path, name):
    again = make_lookalike(name, tmp_path / "again", cases=24, seed=2)
    other = make_lookalike(name, tmp_path / "other", cases=24, seed=3)
    assert digest(again) == digest(made[name]) != digest(other)


def test_isic_has_a_row_in_both_tables_for_every_picture(made):
    pictures = {p.stem for p in (made["isic"] / "ISIC_2019_Training_Input").glob("*.jpg")}
    truth = rows_of(made["isic"] / "ISIC_2019_Training_GroundTruth.csv")
    metadata = rows_of(made["isic"] / "ISIC_2019_Training_Metadata.csv")
    assert len(pictures) == 24
    assert pictures == {row["image"] for row in truth} == {row["image"] for row in metadata}
    assert list(truth[0]) == [
        "image", "MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"
    ]  # fmt: skip
    assert len({row["lesion_id"] for row in metadata}) < 24


def test_brats_little_enhances_in_a_quarter_and_there_it_is_fainter(made):
    small, strength = [], {True: [], False: []}
    for folder in sorted(p for p in made["brats"].iterdir() if p.is_dir()):
        labels = read_labels(folder / f"{folder.name}_seg.nii.gz")
        assert set(np.unique(labels.array)) == {0, 1, 2, 4}
        volume = (labels.array == 4).sum() * np.prod(labels.spacing_mm)
        assert not 6400 <= volume <= 7600  # no case lies near the edge of 7000 mm3
        small.append(volume < 7000)
        image = read_image(folder / f"{folder.name}_t1ce.nii.gz").array
        brain = image[(labels.array == 0) & (image > 0)].mean()
        strength[small[-1]].append(image[labels.array == 4].mean() / brain - 1)
    assert sum(small) == 6
    assert np.mean(strength[True]) < 0.6 * np.mean(strength[False])


def test_adni_ventricles_tell_severity_less_in_the_younger(made):
    """Slope of the dark volume inside the head against ADAS13, by age."""
    found = {True: [], False: []}
    for row in rows_of(made["adni"] / "ADNIMERGE.csv"):
        if row["VISCODE"] == "bl" and row["ADAS13"]:
            (scan,) = (made["adni"] / "ADNI" / row["PTID"]).rglob("*.nii.gz")
            image = read_image(scan).array[10:22, 8:24, 12:22]
            found[float(row["AGE"]) < 70].append((float(row["ADAS13"]), (image < 400).sum()))
    slope = {young: np.polyfit(*np.transpose(own), 1)[0] for young, own in found.items()}
    assert 0 < slope[True] < 0.6 * slope[False]


def test_what_cannot_be_made_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected one of isic, brats, adni"):
        make_lookalike("mnist", tmp_path / "a")
    with pytest.raises(ValueError, match="expected 20 or more, got 5"):
        make_lookalike("isic", tmp_path / "a", cases=5)
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="holds something"):
        make_lookalike("isic", tmp_path)
