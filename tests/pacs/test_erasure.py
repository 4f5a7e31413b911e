"""A person whose series are gone from a real archive is taken out of the study, whole."""

import json
from contextlib import suppress

import pytest
from typer.testing import CliRunner

from fair_strategy.cli.main import app
from fair_strategy.config import StudySettings
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.data.dicom.participants import known_subjects
from fair_strategy.store import cases
from fair_strategy.workflows import desk, showing
from fair_strategy.workflows.drafts import save_draft
from fair_strategy.workflows.erasure import erase_subject
from fair_strategy.workflows.intake import prepare, refresh
from fair_strategy.workflows.pacs.outbox import send_labels
from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.scoring import score_study
from fair_strategy.workflows.sources import image_path
from fair_strategy.workflows.study import StudyError, open_study
from tests.app import cohorts
from tests.killing import killed_at_every_step
from tests.pacs.conftest import scan_series
from tests.pacs.test_study import earlier_segmentation, reader_mask

pytestmark = pytest.mark.usefixtures("moments")
PERSON, OTHER = "H-0001", "H-0002"


@pytest.fixture
def opened(tmp_path):
    """Opens the study of an archive; its state lies in a folder of its own."""
    cohorts.write_model(tmp_path / "pretrained.pt")

    def study(url):
        return open_study(
            f"{url}/dicom-web",
            StudySettings(sensitive_feature="sex", validation_per_group=0),
            state_dir=tmp_path / "kept" / "state",
            shipped_model=tmp_path / "pretrained.pt",
            pacs_timeout_s=2.0,
        )

    return study


def archive_with_two_persons(orthanc):
    """One with two series, of which one was segmented before; and one of another. Their UIDs."""
    uids = []
    for number, segmented in ((1, False), (1, True), (2, False)):
        series, headers = scan_series(number)
        seg = [earlier_segmentation(headers)] if segmented else []
        orthanc.store([*headers, *seg])
        if number == 1:
            uids += [series.study_uid, series.series_uid, *(str(s.SeriesInstanceUID) for s in seg)]
    return uids


def work_on(study, tmp_path):
    """All scans are scored, drafted, labelled, sent; subject_id by PatientID."""
    prepare(study)
    score_study(study)
    make_plans(study)
    labelled = set(cases.labelled_ids(study.store))
    for record in cases.cases(study.store):
        if record.case_id in labelled:
            continue
        mask, _ = reader_mask(study, record, tmp_path)
        save_draft(study, record.case_id, "bert", mask)
        desk.submit(study, record.case_id, mask, client_id="anna")
        showing.entropy_volume(study, record.case_id)
    assert send_labels(study) == 2
    of = [record.subject_id for record in cases.cases(study.store)]
    return {PERSON: max(of, key=of.count), OTHER: min(of, key=of.count)}


def take_away(orthanc, patient):
    query = {"Level": "Patient", "Query": {"PatientID": patient}}
    (found,) = orthanc.ask("/tools/find", json.dumps(query).encode())
    orthanc.ask(f"/patients/{found}", method="DELETE")


def naming(study, *texts):
    """Paths below the state directory that hold one of the texts, or bear it as a name."""
    study.store.close()
    return {
        str(path.relative_to(study.state_dir))
        for path in study.state_dir.rglob("*")
        for text in texts
        if text in path.name or (path.is_file() and text.encode() in path.read_bytes())
    }


def names_of(study, subject, uids):
    own = [c.case_id for c in cases.cases(study.store) if c.subject_id == subject]
    return [subject, *own, *uids]


def test_nothing_here_names_a_person_who_is_gone_from_the_archive(orthanc, opened, tmp_path):
    uids = archive_with_two_persons(orthanc)
    study = opened(orthanc.url)
    subjects = work_on(study, tmp_path)
    names = names_of(study, subjects[PERSON], uids)
    (other,) = [c for c in cases.cases(study.store) if c.subject_id == subjects[OTHER]]
    assert len(naming(study, *names)) > 10
    take_away(orthanc, PERSON)
    assert erase_subject(study, subjects[PERSON]).scans == 2
    assert naming(study, *names) == set()
    assert known_subjects(study.images_dir / "participants.tsv") == {subjects[OTHER]}
    assert other.path.exists()
    assert cases.labelled_ids(study.store) == [other.case_id]
    changes = refresh(study)
    assert (changes.added, changes.changed, changes.gone) == ((), (), ())
    assert naming(study, *names) == set()


@pytest.mark.parametrize("left", ["all", "a new series", "down", "an empty list"])
def test_it_refuses_while_the_archive_has_the_person_or_cannot_tell(
    left, orthanc, proxy, opened, tmp_path
):
    archive_with_two_persons(orthanc)
    study = opened(proxy.url)
    subjects = work_on(study, tmp_path)
    expected, told = StudyError, "take its series in the PACS away first"
    if left != "all":
        take_away(orthanc, PERSON)
    if left == "a new series":
        orthanc.store(scan_series(1)[1])
    elif left == "down":
        proxy.spoil("refuse")
        expected, told = ArchiveUnavailable, "does not list its series"
    elif left == "an empty list":
        proxy.spoil("empty", "/series")
        expected, told = ArchiveUnavailable, "lists none of the 1 series"
    before = {path for path in study.state_dir.rglob("*") if path.is_file()}
    with pytest.raises(expected, match=told):
        erase_subject(study, subjects[PERSON])
    assert {path for path in study.state_dir.rglob("*") if path.is_file()} >= before
    assert len(cases.labelled_ids(study.store)) == 3


def test_the_command_says_that_the_archive_cannot_be_asked(orthanc, opened, tmp_path):
    archive_with_two_persons(orthanc)
    study = opened(orthanc.url)
    subjects = work_on(study, tmp_path)
    orthanc.stop()
    state = str(study.state_dir)
    told = CliRunner().invoke(
        app, ["erase", subjects[PERSON], "--studies", study.location, "--state-dir", state]
    )
    assert told.exit_code == 1
    assert "cannot be reached" in told.stderr


def test_a_person_of_a_series_that_was_never_offered_goes_too(orthanc, proxy, opened):
    series, headers = scan_series(1)
    orthanc.store([*headers, earlier_segmentation(headers)])
    orthanc.store(scan_series(2)[1])
    study = opened(proxy.url)
    proxy.spoil("refuse", f"/studies/{series.study_uid}/series/")  # its segmentation is awaited
    prepare(study)
    (known,) = [record.subject_id for record in cases.cases(study.store)]
    (waiting,) = known_subjects(study.images_dir / "participants.tsv") - {known}
    proxy.spoil("")
    take_away(orthanc, PERSON)
    erase_subject(study, waiting)
    assert naming(study, waiting, series.study_uid, series.series_uid) == set()
    assert refresh(study).added == ()
    with pytest.raises(StudyError, match="no such person"):
        erase_subject(study, waiting)


def test_killed_at_any_step_it_is_ended_by_the_next_call_without_the_archive(
    orthanc, proxy, opened, tmp_path
):
    uids = archive_with_two_persons(orthanc)
    study = opened(proxy.url)
    subjects = work_on(study, tmp_path)
    names = names_of(study, subjects[PERSON], uids)
    other = image_path(study, cases.cases(study.store)[0]).parent.parent
    take_away(orthanc, PERSON)
    steps = 0
    for _ in killed_at_every_step(
        lambda: erase_subject(study, subjects[PERSON]), study.store, study.state_dir.parent
    ):
        steps += 1
        begun = (study.state_dir / "erasing.json").exists()
        proxy.spoil("refuse" if begun else "")  # decided is decided
        with suppress(StudyError):  # no such person: it had ended
            assert erase_subject(study, subjects[PERSON]).scans == 2
        proxy.spoil("")
        assert naming(study, *names) == set()
        assert len(list(other.rglob("series-*.nii.gz"))) == 1
    assert steps > 20
