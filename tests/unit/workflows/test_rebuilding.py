"""After a restoration masks and rows agree again, and nothing is believed that its mask denies."""

import numpy as np
import pytest

from fair_strategy.config import StudySettings
from fair_strategy.data.volumes import read_mask, write_mask
from fair_strategy.store import cases, readings
from fair_strategy.store.database import backup
from fair_strategy.store.readings import CONSENSUS
from fair_strategy.workflows.desk import next_case, submit
from fair_strategy.workflows.double_reading import settle_all
from fair_strategy.workflows.intake import prepare
from fair_strategy.workflows.masks import place_of_mask
from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.rebuilding import FINDER, rebuild
from fair_strategy.workflows.study import open_study
from tests.helpers import AFFINE, blob, write_cohort, write_model
from tests.unit.store.test_salvage import spoil
from tests.unit.workflows.test_replacing import kill_in_submission


@pytest.fixture
def opened(tmp_path):
    """Opens the study anew; it has four scans."""
    images = write_cohort(tmp_path / "images", "AABB")
    model = write_model(tmp_path / "model" / "shipped.pt")

    def again(readers=1):
        return open_study(
            images,
            StudySettings(validation_per_group=0, readers_per_case=readers),
            state_dir=tmp_path / "state",
            shipped_model=model,
        )

    prepare(again())
    return again


def send(study, number, tmp_path, client_id="anna"):
    write_mask(tmp_path / "mask.nii.gz", blob(number)[1], AFFINE)
    case_id = f"sub-{number:02d}_T1w"
    submit(study, case_id, tmp_path / "mask.nii.gz", client_id=client_id, info={"comment": case_id})
    return case_id


def test_nothing_is_rebuilt_without_a_restoration(opened):
    assert rebuild(opened()) == []


def test_labels_of_the_time_after_the_copy_keep_reader_and_info(opened, tmp_path):
    study = opened()
    send(study, 1, tmp_path)
    backup(study.store)
    case_id = send(study, 2, tmp_path)
    study.store.close()
    spoil(study.store.path, "skips")
    study = opened()
    assert cases.label(study.store, case_id) is None
    [told] = rebuild(study)
    label = cases.label(study.store, case_id)
    assert (label.client_id, label.info) == ("anna", {"comment": case_id})
    assert "2 labels have the mask" in told
    assert "0 masks were taken over" in told
    assert rebuild(study) == []


def test_of_an_unreadable_file_the_masks_alone_become_labels(opened, tmp_path):
    study = opened()
    backup(study.store)
    case_id = send(study, 2, tmp_path)
    study.store.close()
    study.store.path.write_bytes(b"\xa5" * 20_000)
    study = opened()
    [told] = rebuild(study)
    label = cases.label(study.store, case_id)
    assert label.client_id == FINDER
    assert np.array_equal(read_mask(label.path).array, blob(2)[1])
    assert "1 masks were taken over" in told


def test_a_row_that_its_mask_denies_is_not_believed(opened, tmp_path):
    study = opened()
    backup(study.store)
    case_id = send(study, 2, tmp_path)
    write_mask(place_of_mask(study, case_id, "final"), blob(3)[1], AFFINE)
    study.store.close()
    spoil(study.store.path, "skips")
    study = opened()
    rebuild(study)
    label = cases.label(study.store, case_id)
    assert label.client_id == FINDER
    assert np.array_equal(read_mask(label.path).array, blob(3)[1])


def test_a_mask_that_does_not_fit_its_scan_is_not_taken_over(opened, tmp_path, caplog):
    study = opened()
    backup(study.store)
    case_id = send(study, 2, tmp_path)
    write_mask(place_of_mask(study, case_id, "final"), np.ones((5, 5, 5), np.uint8), AFFINE)
    study.store.close()
    study.store.path.write_bytes(b"\xa5" * 20_000)
    study = opened()
    rebuild(study)
    assert cases.label(study.store, case_id) is None
    assert f"{case_id}: its mask is not taken over" in caplog.text


def test_an_answered_label_outlives_a_kill_in_its_correction_and_a_damaged_database(
    opened, tmp_path
):
    study = opened()
    backup(study.store)
    case_id = send(study, 1, tmp_path)
    unanswered = tmp_path / "unanswered.nii.gz"
    write_mask(unanswered, blob(2)[1], AFFINE)
    kill_in_submission(study, unanswered)
    study.store.close()
    spoil(study.store.path, "skips")
    study = opened()
    rebuild(study)
    prepare(study)
    label = cases.label(study.store, case_id)
    assert label.client_id == "anna"
    assert np.array_equal(read_mask(label.path).array, blob(1)[1])


def test_of_an_unreadable_file_the_masks_of_several_readers_become_their_readings(opened, tmp_path):
    study = opened(readers=2)
    make_plans(study)
    for client_id in ("anna", "ben"):
        assert next_case(study, "random", client_id) is not None
    backup(study.store)
    closed = send(study, 1, tmp_path)
    send(study, 1, tmp_path, "ben")
    alone = send(study, 2, tmp_path)
    send(study, 3, tmp_path, "carl")  # of whom the copy does not know
    study.store.close()
    study.store.path.write_bytes(b"\xa5" * 20_000)
    study = opened(readers=2)
    [told] = rebuild(study)
    assert "4 masks were taken over" in told
    by_case = {i: readings.readings(study.store, i) for i in (closed, alone, "sub-03_T1w")}
    assert [[r.client_id for r in found] for found in by_case.values()] == [
        ["anna", "ben"],
        ["anna"],
        [],
    ]
    assert np.array_equal(read_mask(by_case[alone][0].path).array, blob(2)[1])
    assert cases.label(study.store, closed).client_id == FINDER
    assert settle_all(study) == 1
    assert cases.label(study.store, closed).client_id == CONSENSUS


def test_a_mask_of_a_reader_who_is_not_known_is_told(opened, tmp_path, caplog):
    study = opened(readers=2)
    backup(study.store)
    case_id = send(study, 1, tmp_path)
    study.store.close()
    study.store.path.write_bytes(b"\xa5" * 20_000)
    study = opened(readers=2)
    rebuild(study)
    assert readings.readings(study.store, case_id) == []
    assert f"{case_id}: the mask of a reader who is not known stays" in caplog.text
