"""From a header to a row of participants.tsv: told or missing, never guessed."""

import stat

import pytest

from fair_strategy.data.cohort import CohortError, load_cohort
from fair_strategy.data.dicom.participants import add_participants, known_subjects
from fair_strategy.data.dicom.subgroups import subgroup_columns

TAG = {
    "PatientSex": "00100040",
    "PatientAge": "00101010",
    "PatientBirthDate": "00100030",
    "StudyDate": "00080020",
    "EthnicGroup": "00102160",
}


def header(**told):
    return {TAG[name]: {"Value": [value]} for name, value in told.items()}


@pytest.mark.parametrize(
    ("told", "columns"),
    [
        ({"PatientSex": "F"}, {"sex": "F"}),
        ({"PatientSex": "m "}, {"sex": "M"}),
        ({"PatientSex": "O"}, {"sex": "O"}),
        ({"PatientSex": "female"}, {}),
        ({"PatientSex": ""}, {}),
        ({"PatientAge": "063Y"}, {"age": "63"}),
        ({"PatientAge": "018M"}, {"age": "1.5"}),
        ({"PatientAge": "026W"}, {"age": "0.498"}),  # 26 x 7 / 365.25
        ({"PatientAge": "000D"}, {"age": "0"}),
        ({"PatientAge": "999Y"}, {}),
        ({"PatientAge": "63"}, {}),
        ({"PatientBirthDate": "19570316", "StudyDate": "20200315"}, {"age": "62"}),
        ({"PatientBirthDate": "19570315", "StudyDate": "20200315"}, {"age": "63"}),
        ({"PatientAge": "070Y", "PatientBirthDate": "19570315", "StudyDate": "20200315"},
         {"age": "70"}),
        ({"PatientBirthDate": "20210101", "StudyDate": "20200315"}, {}),
        ({"PatientBirthDate": "19570230", "StudyDate": "20200315"}, {}),
        ({"PatientBirthDate": "1957", "StudyDate": "20200315"}, {}),
        ({"PatientBirthDate": "19570315"}, {}),
        ({"EthnicGroup": "  Deep   Blue "}, {"ethnic_group": "deep blue"}),
        ({"EthnicGroup": "Unknown"}, {}),
        ({}, {}),
    ],
)  # fmt: skip
def test_a_header_tells_its_columns(told, columns):
    assert subgroup_columns(header(**told)) == columns


@pytest.mark.parametrize("odd", [{}, {"Value": []}, {"Value": [None]}, {"Value": [{"a": 1}]}, None])
def test_an_element_without_a_value_is_missing(odd):
    assert subgroup_columns({TAG["PatientSex"]: odd, TAG["PatientAge"]: odd}) == {}


def test_the_table_is_for_its_owner_alone_and_makes_a_cohort(tmp_path):
    table = tmp_path / "participants.tsv"
    assert add_participants(table, [("sub-1", {"sex": "F", "age": "63"}), ("sub-2", {})]) == 2
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    cohort = load_cohort(table, sensitive_feature=["sex", "age_group"])
    assert cohort.subgroup("sub-1") == "F / 60-70"
    assert cohort.subgroup("sub-2") == "unknown"
    assert known_subjects(table) == {"sub-1", "sub-2"}


def test_what_stands_in_the_table_stays_and_gaps_are_filled(tmp_path):
    table = tmp_path / "participants.tsv"
    table.write_text("participant_id\tsex\tsite\nsub-1\tF\tnorth\nsub-2\tn/a\tsouth\n")
    add_participants(
        table, [("sub-1", {"sex": "M", "age": "40"}), ("sub-2", {"sex": "M"}), ("sub-3", {})]
    )
    assert table.read_text().splitlines() == [
        "participant_id\tsex\tsite\tage\tethnic_group",
        "sub-1\tF\tnorth\t40\tn/a",
        "sub-2\tM\tsouth\tn/a\tn/a",
        "sub-3\tn/a\tn/a\tn/a\tn/a",
    ]


def test_a_table_without_ids_is_left_to_whoever_broke_it(tmp_path):
    table = tmp_path / "participants.tsv"
    table.write_text("id\tsex\nsub-1\tF\n")
    with pytest.raises(CohortError, match="no column 'participant_id'"):
        add_participants(table, [("sub-1", {"sex": "M"})])
    assert table.read_text() == "id\tsex\nsub-1\tF\n"


def test_a_table_to_which_nothing_is_added_is_not_written_again(tmp_path):
    table = tmp_path / "participants.tsv"
    add_participants(table, [("sub-1", {"sex": "F"})])
    before = table.stat()
    add_participants(table, [("sub-1", {"sex": "F"})])
    assert (table.stat().st_mtime_ns, table.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
