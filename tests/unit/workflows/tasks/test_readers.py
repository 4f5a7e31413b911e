"""Data sets as their owners publish them: what is read, what is left out, what is refused."""

import csv
import shutil

import numpy as np
import pytest

from fair_strategy.data.cohort import CohortError
from fair_strategy.data.volumes import VolumeError, read_labels, write_image
from fair_strategy.workflows.tasks.adni import Adni
from fair_strategy.workflows.tasks.brats import Brats
from fair_strategy.workflows.tasks.isic import METADATA, TRUTH, Isic
from fair_strategy.workflows.tasks.settings import AdniSettings, BratsSettings, IsicSettings

MERGE = "ADNIMERGE.csv"


@pytest.fixture
def isic(lookalikes, tmp_path):
    return shutil.copytree(lookalikes["isic"], tmp_path / "isic")


@pytest.fixture
def adni(lookalikes, tmp_path):
    return shutil.copytree(lookalikes["adni"], tmp_path / "adni")


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def rewrite(path, rows):
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def put(path, line, **values):
    rows = rows_of(path)
    rows[line].update(values)
    rewrite(path, rows)


def without(path, *, column=None, line=None):
    rows = rows_of(path)
    if line is not None:
        del rows[line]
    rewrite(path, [{k: v for k, v in row.items() if k != column} for row in rows])


# ISIC ---------------------------------------------------------------------------------------------


def test_isic_gives_class_lesion_and_both_subgroups(isic):
    put(isic / METADATA, 0, age_approx="60.0", sex="Female", lesion_id="L1")
    put(isic / METADATA, 1, age_approx="55", lesion_id="L2")
    found = {case.case_id: case for case in Isic(IsicSettings()).read(isic).cases}
    first, second = (found[row["image"]] for row in rows_of(isic / METADATA)[:2])
    assert first.features == {"age_group": "60 and over", "sex": "female"}
    assert (first.subject_id, first.subgroup) == ("L1", "60 and over")
    assert second.subgroup == "under 60"
    marked = [k for k, v in rows_of(isic / TRUTH)[0].items() if v == "1.0"]
    assert marked == [first.stratum]
    by_sex = Isic(IsicSettings(feature="sex")).read(isic).cases
    assert {case.subgroup for case in by_sex} == {"male", "female"}


def test_isic_images_of_a_lesion_share_its_subgroup(isic):
    """An image taken before the sixtieth year and one after it, and one without an age."""
    for line, age in enumerate(("55", "60", "")):
        put(isic / METADATA, line, age_approx=age, lesion_id="L1")
    cases = [c for c in Isic(IsicSettings()).read(isic).cases if c.subject_id == "L1"]
    assert [case.subgroup for case in cases] == ["under 60"] * 3


def test_isic_reports_what_it_leaves_out(isic):
    put(isic / METADATA, 2, age_approx="", lesion_id="")
    rows = rows_of(isic / TRUTH)
    put(isic / TRUTH, 5, **{k: "0" for k in rows[5] if k != "image"} | {"UNK": "1"})
    left_out = {o.case_id: o.reason for o in Isic(IsicSettings()).read(isic).left_out}
    assert left_out[rows[2]["image"]] == f"has no age_group in {METADATA}"
    assert left_out[rows[5]["image"]].startswith("is of class UNK")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda d: without(d / TRUTH, column="DF"), "no column 'DF'"),
        (lambda d: without(d / METADATA, column="lesion_id"), "no column 'lesion_id'; the table"),
        (lambda d: without(d / METADATA, line=3), "name different images, such as ISIC_0000003 "),
        (lambda d: put(d / TRUTH, 3, MEL="1", NV="1"), "line 5: ISIC_0000003: expected one class"),
        (lambda d: put(d / TRUTH, 3, image="ISIC_0000002"), "line 5: image ISIC_0000002 stands"),
        (lambda d: put(d / METADATA, 3, age_approx="old"), "line 5: column 'age_approx' holds"),
        (
            lambda d: rewrite(d / TRUTH, [r | {"NAEVUS": "0"} for r in rows_of(d / TRUTH)]),
            "unknown class 'NAEVUS'; the classes are MEL",
        ),
        (
            lambda d: (d / "ISIC_2019_Training_Input" / "ISIC_0000004.jpg").unlink(),
            "1 of .* images are missing, such as ISIC_0000004.jpg",
        ),
        (lambda d: (d / TRUTH).unlink(), "no such table"),
    ],
)
def test_isic_bad_input_is_refused_by_table_line_and_image(isic, damage, said):
    damage(isic)
    with pytest.raises(CohortError, match=said):
        Isic(IsicSettings()).read(isic)


def test_isic_a_damaged_image_is_refused_by_name(isic):
    recipe = Isic(IsicSettings(image_size=32))
    case = recipe.read(isic).cases[0]
    case.files[0].write_bytes(b"not a picture")
    with pytest.raises(CohortError, match=f"{case.case_id}.jpg: cannot be read"):
        recipe.row(case, None)


# BraTS --------------------------------------------------------------------------------------------


@pytest.fixture
def tumour(lookalikes, tmp_path):
    """A copy of the look-alike with three cases."""
    for case in sorted(p for p in lookalikes["brats"].iterdir() if p.is_dir())[:3]:
        shutil.copytree(case, tmp_path / "brats" / case.name)
    return tmp_path / "brats"


def test_brats_groups_by_the_enhancing_volume(tumour):
    """110 voxels of 64 mm3 are 7040 mm3, 109 are 6976."""
    names = sorted(path.name for path in tumour.iterdir())
    for name, voxels in zip(names, (110, 109, 0), strict=True):
        labels = np.zeros((32, 32, 32))
        labels.reshape(-1)[:voxels] = 4
        write_image(tumour / name / f"{name}_seg.nii.gz", labels, np.diag([4, 4, 4, 1]))
    cases = Brats(BratsSettings()).read(tumour).cases
    assert [case.subgroup for case in cases] == [
        "above 7000 mm3", "up to 7000 mm3", "up to 7000 mm3"
    ]  # fmt: skip
    assert [case.features["centre"] for case in cases] == [name.split("_")[1] for name in names]
    assert [path.name.split("_")[-1] for path in cases[0].files] == [
        "t1.nii.gz", "t1ce.nii.gz", "t2.nii.gz", "flair.nii.gz"
    ]  # fmt: skip


def test_brats_class_weights_are_inverse_to_the_voxels_and_decay_to_one(tumour):
    settings = BratsSettings(class_weight_decay=0.5)
    cases = Brats(settings).read(tumour).cases
    recipe = Brats(settings).fitted(cases)
    counts = np.zeros(4)
    for case in cases:
        counts += [np.sum(read_labels(case.target).array == label) for label in (0, 1, 2, 4)]
    assert recipe.weights == pytest.approx(counts[0] / counts)
    decayed = recipe.loss(2).keywords["weights"]
    assert decayed == pytest.approx(1 + (counts[0] / counts - 1) / 4)


def test_brats_patches_hold_the_labels_of_their_image(tumour):
    recipe = Brats(BratsSettings(patch=(16, 16, 16)))
    case = recipe.read(tumour).cases[0]
    rng = np.random.default_rng(0)
    tumours = 0
    for _ in range(12):
        image, classes = recipe.row(case, rng)
        assert image.shape == (4, 16, 16, 16)
        assert classes.shape == (16, 16, 16)
        # t1ce of enhancing tumour is far above that of the brain, and only there
        if (classes == 3).sum() > 20:
            tumours += 1
            assert image[1][classes == 3].mean() > image[1][classes == 0].mean() + 0.5
    assert tumours


def damaged(folder, change):
    case = sorted(folder.iterdir())[1]
    change(case, case.name)
    return case.name


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (lambda p, n: (p / f"{n}_t2.nii.gz").unlink(), CohortError, "_t2.nii.gz; a case needs"),
        (lambda p, n: (p / f"{n}_seg.nii.gz").unlink(), CohortError, "_seg.nii.gz; a case needs"),
        (
            lambda p, n: write_image(p / f"{n}_seg.nii.gz", np.full((8, 8, 8), 3.0), np.eye(4)),
            CohortError,
            "_seg.nii.gz: label 3; expected 0, 1, 2, 4",
        ),
    ],
)
def test_brats_bad_input_is_refused_by_case_and_file(tumour, change, kind, said):
    name = damaged(tumour, change)
    with pytest.raises(kind, match=f"{name}{said}"):
        Brats(BratsSettings()).read(tumour)


def test_brats_a_contrast_on_another_grid_is_refused(tumour):
    recipe = Brats(BratsSettings(patch=(16, 16, 16)))
    case = recipe.read(tumour).cases[0]
    write_image(case.files[2], np.ones((8, 8, 8)), np.eye(4))
    with pytest.raises(VolumeError, match=r"\(8, 8, 8\)"):
        recipe.row(case, None)


def test_brats_a_centre_must_stand_in_the_name(tumour):
    case = sorted(tumour.iterdir())[0]
    for path in case.iterdir():
        path.rename(path.with_name(path.name.replace(case.name, "plain")))
    case.rename(tumour / "plain")
    with pytest.raises(CohortError, match="plain: no centre in its name"):
        Brats(BratsSettings(feature="centre")).read(tumour)


# ADNI ---------------------------------------------------------------------------------------------


def test_adni_reads_the_rows_of_one_visit(adni):
    put(adni / MERGE, 0, AGE="70", ADAS13="11.5", MMSE="28")
    put(adni / MERGE, 2, AGE="69.9")
    cases = Adni(AdniSettings()).read(adni).cases
    first, second = (
        next(c for c in cases if c.case_id == rows_of(adni / MERGE)[line]["PTID"])
        for line in (0, 2)
    )
    assert first.target == (11.5, 28.0)
    assert (first.subgroup, second.subgroup) == ("70 and over", "under 70")


def test_adni_the_stage_is_what_balanced_equalises_within_and_may_be_left_out(adni):
    stages = {row["PTID"]: row["DX_bl"] for row in rows_of(adni / MERGE)}
    assert len(set(stages.values())) == 3
    cases = Adni(AdniSettings()).read(adni).cases
    assert {case.case_id: case.stratum for case in cases} == {
        c.case_id: stages[c.case_id] for c in cases
    }
    without(adni / MERGE, column="DX_bl")
    with pytest.raises(CohortError, match="no column 'DX_bl'"):
        Adni(AdniSettings()).read(adni)
    assert {case.stratum for case in Adni(AdniSettings(stage="")).read(adni).cases} == {""}


def test_adni_reports_missing_scores_and_scans(adni):
    put(adni / MERGE, 0, ADAS13="")
    put(adni / MERGE, 2, MMSE="-4")
    put(adni / MERGE, 4, ADAS13="nan", AGE="")
    names = [rows_of(adni / MERGE)[line]["PTID"] for line in (0, 2, 4, 6)]
    shutil.rmtree(adni / "ADNI" / names[3])
    reading = Adni(AdniSettings()).read(adni)
    reasons = {o.case_id: o.reason for o in reading.left_out}
    assert reasons[names[0]] == f"has no ADAS13 in {MERGE}"
    assert reasons[names[1]] == f"has no MMSE in {MERGE}"
    assert reasons[names[2]] == f"has no AGE, ADAS13 in {MERGE}"
    assert reasons[names[3]] == "has no scan"
    assert not {case.case_id for case in reading.cases} & set(names)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda d: without(d / MERGE, column="ADAS13"), "no column 'ADAS13'; the table has RID"),
        (lambda d: without(d / MERGE, line=2), "no row with VISCODE bl in ADNIMERGE.csv for 003_S"),
        (lambda d: put(d / MERGE, 3, VISCODE="bl"), "line 5: PTID 003_S_0002 has two rows"),
        (lambda d: put(d / MERGE, 2, MMSE="good"), "line 4: column 'MMSE' holds 'good'"),
        (lambda d: shutil.rmtree(d / "ADNI"), "ADNI: no such folder"),
        (lambda d: (d / "ADNI" / "999_S_9999").mkdir(), "999_S_9999: no .nii or .nii.gz"),
    ],
)
def test_adni_bad_input_is_refused_by_line_and_subject(adni, damage, said):
    damage(adni)
    with pytest.raises(CohortError, match=said):
        Adni(AdniSettings()).read(adni)


def test_adni_another_visit_must_exist(adni):
    with pytest.raises(CohortError, match="no row with VISCODE 'm06'; there are: bl, m12"):
        Adni(AdniSettings(visit="m06")).read(adni)


def test_adni_takes_the_earliest_scan(adni):
    person = sorted((adni / "ADNI").iterdir())[0]
    (scan,) = person.rglob("*.nii.gz")
    earlier = person / "MPRAGE" / "2005-03-02_00_00_00.0" / "I900" / "later_name.nii.gz"
    earlier.parent.mkdir(parents=True)
    shutil.copy(scan, earlier)
    case = next(c for c in Adni(AdniSettings()).read(adni).cases if c.case_id == person.name)
    assert case.files == (earlier,)


def test_adni_scores_are_standardised_by_the_training_cases_and_scans_cut_to_the_grid(adni):
    settings = AdniSettings(shape=(32, 36, 32), spacing_mm=5.5)
    cases = Adni(settings).read(adni).cases
    recipe = Adni(settings).fitted(cases)
    rows = [recipe.row(case, None) for case in cases[:6]]
    assert {tuple(inputs.shape) for inputs, _ in rows} == {(1, 32, 36, 32)}
    targets = np.array([case.target for case in cases])
    expected = (targets[:6] - targets.mean(axis=0)) / targets.std(axis=0)
    assert np.stack([target for _, target in rows]) == pytest.approx(expected, rel=1e-4, abs=1e-5)
