"""A cohort on disk: bytes, interruption, growth, names."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fair_strategy.data import bids, volumes
from fair_strategy.data.cohort import CohortError, load_cohort
from fair_strategy.data.synthetic import cohort as module
from fair_strategy.data.synthetic.cohort import CohortSettings, assign_groups, write_cohort

TINY = CohortSettings(
    subjects=3, minority_fraction=0.4, seed=4, voxel_mm=4.0, field_of_view="caudate", labelled=1
)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """The tiny cohort, written by this process; for reading only."""
    out = tmp_path_factory.mktemp("synthetic") / "cohort"
    write_cohort(out, TINY)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def subjects_in(folder: Path) -> list[str]:
    with (folder / "participants.tsv").open(newline="") as table:
        return [row["participant_id"] for row in csv.DictReader(table, delimiter="\t")]


def stop_at(monkeypatch, subject_id: str) -> None:
    """The mask of this subject is as far as the run gets."""
    write_mask = volumes.write_mask

    def interrupted(path: Path, *arguments) -> None:
        if subject_id in path.name:
            raise KeyboardInterrupt
        write_mask(path, *arguments)

    monkeypatch.setattr(module.volumes, "write_mask", interrupted)


def test_one_process_and_two_write_the_same_bytes(written, tmp_path):
    report = write_cohort(tmp_path / "two", TINY, processes=2)
    assert contents(tmp_path / "two") == contents(written)
    assert (report.written, report.kept, report.labelled) == (3, 0, 2)


def test_an_interruption_leaves_whole_subjects_and_the_next_run_goes_on(
    written, tmp_path, monkeypatch
):
    out = tmp_path / "cohort"
    with monkeypatch.context() as patch:
        stop_at(patch, "sub-002")
        with pytest.raises(KeyboardInterrupt):
            write_cohort(out, TINY)
    assert subjects_in(out) == ["sub-001"]
    assert [scan.subject_id for scan in bids.walk(out)] == ["sub-001"]
    assert not [name for name in contents(out) if "sub-002" in name]
    report = write_cohort(out, TINY)
    assert (report.written, report.kept) == (2, 1)
    assert contents(out) == contents(written)


def test_what_a_killed_process_left_behind_is_cleared(written, tmp_path):
    """A kill between the renames leaves a mask without its image, and a partial folder."""
    out = tmp_path / "cohort"
    shutil.copytree(written, out)
    shutil.rmtree(out / "sub-002")
    (out / ".partial-abc" / "sub-002").mkdir(parents=True)
    write_cohort(out, TINY)
    assert contents(out) == contents(written)
    assert not list(out.glob(".partial*"))


def test_more_subjects_and_labels_leave_the_earlier_ones_as_they_are(written, tmp_path):
    out = tmp_path / "cohort"
    shutil.copytree(written, out)
    grown = replace(TINY, subjects=4, minority_fraction=0.4)
    same = assign_groups(4, 0.4, TINY.seed)[:3] == assign_groups(3, 0.4, TINY.seed)
    assert same, "choose a seed for which the groups stay"
    earlier = {name: data for name, data in contents(out).items() if "sub-" in name}
    report = write_cohort(out, replace(grown, labelled=2))
    now = contents(out)
    assert (report.written, report.kept, report.labelled) == (1, 3, 4)
    assert {name: now[name] for name in earlier} == earlier
    assert subjects_in(out) == ["sub-001", "sub-002", "sub-003", "sub-004"]
    assert len(bids.find_existing_masks(out, bids.walk(out))) == 4


def test_a_submitted_label_is_not_overwritten_by_a_second_run(written, tmp_path):
    out = tmp_path / "cohort"
    shutil.copytree(written, out)
    label = next((out / "derivatives" / "labels").rglob("*_mask.nii.gz"))
    label.write_bytes(b"corrected by hand")
    write_cohort(out, TINY)
    assert label.read_bytes() == b"corrected by hand"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": 5}, "made with seed 4, not 5; choose another folder"),
        ({"bias": "weak"}, "made with bias strong, not weak"),
        ({"voxel_mm": 2.0}, "made with voxel_mm 4.0, not 2.0"),
        ({"subjects": 2}, "holds sub-003, which is not in this cohort"),
    ],
)
def test_a_folder_of_another_cohort_is_refused(written, change, sentence):
    before = contents(written)
    with pytest.raises(CohortError, match=sentence):
        write_cohort(written, replace(TINY, **change))
    assert contents(written) == before


def test_a_subject_that_would_change_its_group_is_refused(written, tmp_path):
    out = tmp_path / "cohort"
    shutil.copytree(written, out)
    sidecar = next((out / "derivatives" / "reference").rglob("sub-002*_mask.json"))
    sidecar.write_text('{"effect_mm": 9}')
    with pytest.raises(CohortError, match=r"sub-002.*would change with the new number of subjects"):
        write_cohort(out, TINY)


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CohortError, match="not empty, and no synthetic cohort"):
        write_cohort(tmp_path, TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"subjects": 0}, "subjects: expected at least 1, got 0"),
        ({"bias": "huge"}, "bias: expected one of strong, weak, none, got huge"),
        ({"minority_fraction": 1.5}, "minority fraction: expected 0 to 1, got 1.5"),
        ({"minority_fraction": float("nan")}, "minority fraction: expected 0 to 1"),
        ({"seed": -1}, "seed: expected 0 or more, got -1"),
        ({"voxel_mm": 0.1}, "voxel size: expected 0.25 to 8 mm, got 0.1"),
        (
            {"field_of_view": "neck"},
            "field of view: expected one of brain, caudate, head, got neck",
        ),
        ({"labelled": 2}, "labelled: expected at most 1, the size of group B, got 2"),
    ],
)
def test_settings_that_cannot_be_are_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(TINY, **change)


def test_a_cohort_without_minority_can_have_labels():
    assert replace(TINY, minority_fraction=0.0, labelled=2).group_sizes() == {"A": 3, "B": 0}


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.35, 0.5, 1.0])
def test_the_minority_has_exactly_its_share(fraction):
    for subjects in range(1, 70):
        groups = assign_groups(subjects, fraction, seed=subjects)
        assert len(groups) == subjects
        assert abs(groups.count("B") - subjects * fraction) <= 0.5 + 1e-9


def test_full_blocks_keep_their_groups_when_subjects_are_added():
    for seed in range(10):
        assert assign_groups(47, 0.35, seed)[:40] == assign_groups(95, 0.35, seed)[:40]


def test_a_subjects_number_does_not_tell_the_group():
    """Over 400 seeds every place is in the minority about as often as every other."""
    shares = [0] * 20
    for seed in range(400):
        for place, group in enumerate(assign_groups(20, 0.35, seed)):
            shares[place] += group == "B"
    # Binomial(400, .35): SD 9.5 around 140; four SD for 20 places.
    assert max(abs(share - 140) for share in shares) < 38


def test_the_folder_is_read_as_any_bids_study(written):
    scans = bids.walk(written)
    assert [scan.case_id for scan in scans] == [f"sub-00{n}_T1w" for n in (1, 2, 3)]
    cohort = load_cohort(bids.participants_file(written))
    assert cohort.columns == ("participant_id", "group", "sex", "age")
    assert cohort.known_groups == ("A", "B")
    image = volumes.read_image(scans[0].path)
    mask_path = written / "derivatives/reference" / bids.mask_name("sub-001_T1w", "reference")
    mask = volumes.read_mask(mask_path)
    assert image.array.shape == mask.array.shape
    assert (image.affine == mask.affine).all()


def test_only_labels_are_found_as_labels_and_never_the_answer_key(written):
    masks = bids.find_existing_masks(written, bids.walk(written))
    assert len(masks) == 2
    assert {path.relative_to(written).parts[1] for path in masks.values()} == {"labels"}
    for case_id, path in masks.items():
        reference = written / "derivatives/reference" / bids.mask_name(case_id, "reference")
        assert path.read_bytes() == reference.read_bytes()


def test_nothing_beside_the_images_tells_the_group(written):
    """Only participants.tsv and the answer key may; what is left is the same for both groups."""
    for name, data in contents(written).items():
        if name.startswith("derivatives/reference") or name == "participants.tsv":
            continue
        assert name.startswith(("derivatives/labels/", "sub-")) or b"sub-0" not in data
        assert "group" not in name
        assert not (name.startswith("sub-") and name.endswith((".json", ".tsv")))
