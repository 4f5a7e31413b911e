"""Where scans and masks lie: BIDS with and without sessions, flat folders, refused names."""

import os
from pathlib import Path

import pytest

from fair_strategy.data import bids
from fair_strategy.data.cohort import CohortError


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def ids(folder: Path) -> list[tuple[str, str]]:
    return [(scan.case_id, scan.subject_id) for scan in bids.walk(folder)]


def masks(folder: Path) -> dict[str, str]:
    found = bids.find_existing_masks(folder, bids.walk(folder))
    return {case_id: path.relative_to(folder).as_posix() for case_id, path in found.items()}


def test_a_bids_folder_gives_its_t1w_images_with_and_without_sessions(tmp_path: Path) -> None:
    touched(
        tmp_path,
        "sub-02/anat/sub-02_T1w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii",
        "sub-01/ses-1/anat/sub-01_ses-1_acq-fast_run-1_T1w.nrrd",
        "sub-01/ses-1/anat/sub-01_ses-1_T2w.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_T1w.json",
        "sub-01/ses-1/anat/._sub-01_ses-1_T1w.nii.gz",
        "sub-01/ses-1/func/sub-01_ses-1_task-rest_bold.nii.gz",
        "sub-03/anat/sub-03_FLAIR.nii.gz",
        "derivatives/other/sub-09/anat/sub-09_T1w.nii.gz",
        "sourcedata/sub-08/anat/sub-08_T1w.nii.gz",
        "stray.nii.gz",
        "participants.tsv",
    )
    assert ids(tmp_path) == [
        ("sub-01_ses-1_acq-fast_run-1_T1w", "sub-01"),
        ("sub-01_ses-2_T1w", "sub-01"),
        ("sub-02_T1w", "sub-02"),
    ]


def test_a_flat_folder_gives_its_top_level_images(tmp_path: Path) -> None:
    touched(
        tmp_path,
        "b.nii.gz",
        "a.nrrd",
        "sub-07_ses-1.nii",
        "a.seg.nrrd",
        "notes.txt",
        ".hidden.nii.gz",
        ".nii.gz",
        "labels/final/b.nii.gz",
        "derivatives/x/c.nii.gz",
        "folder.nii/inside.nii",
    )
    assert ids(tmp_path) == [("a", "a"), ("b", "b"), ("sub-07_ses-1", "sub-07")]


def test_an_empty_folder_has_no_scans(tmp_path: Path) -> None:
    assert bids.walk(tmp_path) == []


def test_the_fingerprint_is_size_and_time_and_follows_a_replaced_file(tmp_path: Path) -> None:
    path = touched(tmp_path, "a.nii") / "a.nii"
    os.utime(path, ns=(0, 1_234_567_890))
    assert [scan.fingerprint for scan in bids.walk(tmp_path)] == ["1-1234567890"]
    path.write_bytes(b"xy")
    os.utime(path, ns=(0, 1_234_567_890))
    assert [scan.fingerprint for scan in bids.walk(tmp_path)] == ["2-1234567890"]


def test_a_linked_scan_has_the_fingerprint_of_its_content(tmp_path: Path) -> None:
    content = touched(tmp_path / "annex", "key") / "key"
    os.utime(content, ns=(0, 7))
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "a.nii").symlink_to(content)
    assert [scan.fingerprint for scan in bids.walk(tmp_path / "study")] == ["1-7"]


def test_a_dangling_link_is_listed_so_that_reading_it_can_name_it(tmp_path: Path) -> None:
    (tmp_path / "a.nii").symlink_to(tmp_path / "not-fetched")
    (scan,) = bids.walk(tmp_path)
    assert scan.case_id == "a"
    content = tmp_path / "not-fetched"
    content.write_bytes(b"now it is here")
    assert bids.walk(tmp_path)[0].fingerprint != scan.fingerprint


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["a.nii", "a.nii.gz"], r"make one id, a; remove or rename one"),
        (
            ["sub-01/anat/sub-01_T1w.nii", "sub-01/anat/sub-01_T1w.nrrd"],
            "make one id, sub-01_T1w",
        ),
    ],
)
def test_two_files_of_one_id_are_refused_by_name(
    tmp_path: Path, names: list[str], sentence: str
) -> None:
    with pytest.raises(CohortError, match=sentence) as caught:
        bids.walk(touched(tmp_path, *names))
    assert all(str(tmp_path / name) in str(caught.value) for name in names)


@pytest.mark.parametrize(
    ("bad", "good", "sentence"),
    [
        (
            "sub-01/anat/sub-02_T1w.nii",
            "sub-03/anat/sub-03_T1w.nii",
            "lies in the folder of sub-01 but does not bear its name",
        ),
        ("sub-01/anat/sub-011_T1w.nii", "sub-01/anat/sub-01_T1w.nii", "does not bear its name"),
        ("scan 1.nii", "scan-1.nii", "'scan 1' is no id; "),
        ("a..b.nii", "a.b.nii", "'a..b' is no id"),
    ],
)
def test_a_file_with_a_bad_name_is_left_out_by_name_and_the_others_are_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: str, good: str, sentence: str
) -> None:
    found = bids.walk(touched(tmp_path, bad, good))
    assert [scan.path for scan in found] == [tmp_path / good]
    (warning,) = caplog.messages
    assert str(tmp_path / bad) in warning
    assert sentence in warning


def test_a_folder_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"cannot read the folder .*nowhere: No such file"):
        bids.walk(tmp_path / "nowhere")
    with pytest.raises(CohortError, match=r"cannot read the folder .*a.nii: Not a directory"):
        bids.walk(touched(tmp_path, "a.nii") / "a.nii")


def test_walking_opens_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("io.open", refuse)
    assert len(bids.walk(tmp_path)) == 1


def test_the_table_is_found_where_it_is(tmp_path: Path) -> None:
    assert bids.participants_file(tmp_path) is None
    touched(tmp_path, "participants.tsv")
    assert bids.participants_file(tmp_path) == tmp_path / "participants.tsv"


@pytest.mark.parametrize(
    ("case_id", "expected"),
    [
        ("sub-01_T1w", "sub-01/anat/sub-01_hemi-L_label-caudate_desc-final_mask.nii.gz"),
        (
            "sub-01_ses-1_T1w",
            "sub-01/ses-1/anat/sub-01_ses-1_hemi-L_label-caudate_desc-final_mask.nii.gz",
        ),
        (
            "sub-01_acq-fast_run-2_T1w",
            "sub-01/anat/sub-01_acq-fast_run-2_hemi-L_label-caudate_desc-final_mask.nii.gz",
        ),
        ("IXI002-Guys", "IXI002-Guys_hemi-L_label-caudate_desc-final_mask.nii.gz"),
        ("sub-01", "sub-01_hemi-L_label-caudate_desc-final_mask.nii.gz"),
    ],
)
def test_masks_are_named_as_bids_derivatives(case_id: str, expected: str) -> None:
    assert bids.mask_name(case_id, "final").as_posix() == expected
    assert bids.tag_of_mask(bids.mask_name(case_id, "final")) == "final"
    assert bids.tag_of_mask(Path(f"{case_id}.nii.gz")) is None


def test_no_two_scans_share_a_mask_name() -> None:
    cases = [
        "sub-1_T1w",
        "sub-1_run-1_T1w",
        "sub-1_run-2_T1w",
        "sub-1_ses-1_T1w",
        "sub-1",
        "sub-1_x",
    ]
    assert len({bids.mask_name(case, tag) for case in cases for tag in ("final", "original")}) == 12


@pytest.mark.parametrize("tag", ["final", "original"])
@pytest.mark.parametrize(
    "image", ["sub-01/ses-1/anat/sub-01_ses-1_run-2_T1w.nii.gz", "sub-01/anat/sub-01_T1w.nii"]
)
def test_a_mask_named_by_us_is_found_again(tmp_path: Path, image: str, tag: str) -> None:
    touched(tmp_path, image, image.replace("_T1w", "_acq-b_T1w"))
    case_id = Path(image).name.split(".")[0]
    touched(tmp_path / "derivatives" / "reader", bids.mask_name(case_id, tag).as_posix())
    assert list(masks(tmp_path)) == [case_id]


def test_a_mask_of_a_flat_study_named_by_us_is_found_again(tmp_path: Path) -> None:
    touched(tmp_path, "IXI_1.nii", "IXI_2.nii")
    touched(tmp_path / "derivatives" / "reader", bids.mask_name("IXI_2", "final").as_posix())
    assert list(masks(tmp_path)) == ["IXI_2"]


def test_derivatives_are_matched_by_their_entities(tmp_path: Path) -> None:
    touched(
        tmp_path,
        "sub-01/anat/sub-01_run-1_T1w.nii.gz",
        "sub-01/anat/sub-01_run-2_T1w.nii.gz",
        "sub-02/anat/sub-02_T1w.nii.gz",
        "sub-03/anat/sub-03_T1w.nii.gz",
        "derivatives/a/sub-01/anat/sub-01_run-2_space-orig_hemi-L_label-caudate_mask.nii.gz",
        "derivatives/a/sub-02/anat/sub-02_run-1_hemi-L_label-caudate_mask.nii.gz",
        "derivatives/a/sub-02/anat/sub-02_hemi-R_label-caudate_mask.nii.gz",
        "derivatives/a/sub-02/anat/sub-02_label-caudateRight_mask.nii.gz",
        "derivatives/a/sub-02/anat/sub-02_hemi-L_label-putamen_mask.nii.gz",
        "derivatives/a/sub-02/anat/sub-02_desc-brain_mask.nii.gz",
        "derivatives/a/sub-03/anat/sub-03_label-caudate_mask.json",
        "derivatives/a/sub-99/anat/sub-99_hemi-L_label-caudate_mask.nii.gz",
    )
    assert masks(tmp_path) == {
        "sub-01_run-2_T1w": (
            "derivatives/a/sub-01/anat/sub-01_run-2_space-orig_hemi-L_label-caudate_mask.nii.gz"
        )
    }


@pytest.mark.parametrize("pipeline", ["reference", "fair_caudate"])
def test_answers_and_our_own_output_are_not_imported(tmp_path: Path, pipeline: str) -> None:
    touched(
        tmp_path,
        "sub-01/anat/sub-01_T1w.nii.gz",
        f"derivatives/{pipeline}/sub-01/anat/sub-01_hemi-L_label-caudate_desc-final_mask.nii.gz",
    )
    assert masks(tmp_path) == {}


def test_the_most_fitting_of_several_masks_is_taken(tmp_path: Path) -> None:
    derivatives = "derivatives/p/sub-01/anat/sub-01"
    names = [  # from the least wanted to the most
        f"{derivatives}_dseg.nii.gz",
        f"{derivatives}_desc-aseg_dseg.nii.gz",
        f"{derivatives}_label-caudate_mask.nii.gz",
        f"{derivatives}_hemi-L_label-caudate_desc-rater2_mask.nii.gz",
        f"{derivatives}_hemi-L_label-caudate_desc-rater1_mask.nii.gz",
        f"{derivatives}_hemi-L_label-caudate_desc-final_mask.seg.nrrd",
        "labels/final/sub-01_T1w.nii.gz",
    ]
    touched(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
    for name in names:
        touched(tmp_path, name)
        assert masks(tmp_path) == {"sub-01_T1w": name}


def test_a_label_map_of_one_label_only_is_not_taken_for_the_whole_map(tmp_path: Path) -> None:
    touched(tmp_path, "sub-01/anat/sub-01_T1w.nii", "derivatives/p/sub-01_label-GM_dseg.nii")
    assert masks(tmp_path) == {}


def test_stock_labels_are_matched_by_id(tmp_path: Path) -> None:
    touched(tmp_path, "a.nii.gz", "b.nii.gz")
    touched(tmp_path, "labels/final/a.nrrd", "labels/final/z.nii.gz", "labels/original/b.nii.gz")
    assert masks(tmp_path) == {"a": "labels/final/a.nrrd"}


def test_a_preprocessed_scan_is_matched_with_and_without_its_own_desc(tmp_path: Path) -> None:
    touched(tmp_path, "sub-01/anat/sub-01_desc-brain_T1w.nii")
    touched(tmp_path, "derivatives/p/sub-01_hemi-L_label-caudate_mask.nii")
    assert list(masks(tmp_path)) == ["sub-01_desc-brain_T1w"]
    touched(tmp_path, "sub-01/anat/sub-01_desc-head_T1w.nii")  # now either could be meant
    assert masks(tmp_path) == {}
    touched(tmp_path, "derivatives/p/sub-01_desc-head_hemi-L_label-caudate_mask.nii")
    assert list(masks(tmp_path)) == ["sub-01_desc-head_T1w"]


def test_label_maps_are_told_from_masks_by_name() -> None:
    assert bids.is_label_map(Path("sub-01_desc-aseg_dseg.nii.gz"))
    assert not bids.is_label_map(Path("sub-01_label-caudate_mask.nii.gz"))
    assert not bids.is_label_map(Path("labels/final/a.nrrd"))


@pytest.mark.parametrize("good", ["sub-01_ses-1_T1w", "a", "IXI002.Guys", "_x", "a" * 128])
def test_ordinary_ids_are_let_through(good: str) -> None:
    assert bids.check_id(good) == good


@pytest.mark.parametrize(
    "bad",
    ["", ".", "..", ".a", "../x", "a/b", "a\\b", "a..b", "a b", "a\n", "é", "a\0", "~", "a" * 129],
)
def test_ids_that_could_leave_the_folder_are_refused_by_name(bad: str) -> None:
    with pytest.raises(ValueError, match="is no id; ids hold letters") as caught:
        bids.check_id(bad)
    assert repr(bad) in str(caught.value)


@pytest.mark.parametrize("bad", ["", "../../x", "fi-nal", "a.b", "final\n", "a" * 33, "é", "a/b"])
def test_tags_that_could_leave_the_folder_are_refused_by_name(bad: str) -> None:
    with pytest.raises(ValueError, match="is no tag") as caught:
        bids.check_tag(bad)
    assert repr(bad) in str(caught.value)
    assert bids.check_tag("original") == "original"


def test_a_mask_name_cannot_be_made_of_a_bad_id_or_tag() -> None:
    with pytest.raises(ValueError, match="is no id"):
        bids.mask_name("../x", "final")
    with pytest.raises(ValueError, match="is no tag"):
        bids.mask_name("x", "../../x")
