"""participants.tsv -> subgroups; every way in which the table can be wrong."""

from pathlib import Path

import pytest

from fair_strategy.data.cohort import UNKNOWN, Cohort, CohortError, load_cohort

TABLE = (
    "participant_id\tgroup\tsex\tage\n"
    "sub-01\tA\tF\t59.9\n"
    "sub-02\tB\tM\t60\n"
    "sub-03\tA\tn/a\t71\n"
    "sub-04\t\tF\tn/a\n"
)


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "participants.tsv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def groups(cohort: Cohort, *subjects: str) -> list[str]:
    return [cohort.subgroup(subject) for subject in subjects]


def test_the_column_group_is_the_default_feature(tmp_path: Path) -> None:
    cohort = load_cohort(written(tmp_path, TABLE))
    assert cohort.features == ("group",)
    assert cohort.fairness_on
    assert cohort.columns == ("participant_id", "group", "sex", "age")
    assert groups(cohort, "sub-01", "sub-02", "sub-03", "sub-04") == ["A", "B", "A", UNKNOWN]
    assert cohort.known_groups == ("A", "B")


def test_without_a_column_group_everybody_is_unknown_and_the_columns_are_told(
    tmp_path: Path,
) -> None:
    cohort = load_cohort(written(tmp_path, "participant_id\tsex\nsub-01\tF\n"))
    assert not cohort.fairness_on
    assert cohort.columns == ("participant_id", "sex")
    assert cohort.subgroup("sub-01") == UNKNOWN


def test_without_a_table_everybody_is_unknown() -> None:
    cohort = load_cohort(None)
    assert not cohort.fairness_on
    assert cohort.count_unknown(["sub-01", "sub-02"]) == 2


def test_an_empty_list_of_features_turns_weighting_off_though_there_is_a_group(
    tmp_path: Path,
) -> None:
    assert not load_cohort(written(tmp_path, TABLE), sensitive_feature=()).fairness_on


def test_ages_fall_into_bins_closed_below_and_open_above(tmp_path: Path) -> None:
    cohort = load_cohort(written(tmp_path, TABLE), sensitive_feature=["age_group"])
    # Bins 0, 60, 70, 200: 59.9 is below 60, 60 is not, 71 is past 70; sub-04's age is n/a.
    assert groups(cohort, "sub-01", "sub-02", "sub-03", "sub-04") == [
        "0-60", "60-70", "70-200", UNKNOWN,
    ]  # fmt: skip


def test_several_features_make_intersections_and_one_missing_value_makes_unknown(
    tmp_path: Path,
) -> None:
    cohort = load_cohort(
        written(tmp_path, TABLE), sensitive_feature=["sex", "age_group"], age_bins=[0, 65, 100]
    )
    assert groups(cohort, "sub-01", "sub-02", "sub-03", "sub-04") == [
        "F / 0-65", "M / 0-65", UNKNOWN, UNKNOWN,
    ]  # fmt: skip


def test_a_column_age_group_of_the_table_is_taken_as_it_is(tmp_path: Path) -> None:
    path = written(tmp_path, "participant_id\tage\tage_group\nsub-01\t30\told\n")
    assert load_cohort(path, sensitive_feature=["age_group"]).subgroup("sub-01") == "old"


@pytest.mark.parametrize("written_id", ["01", "sub-01"])
def test_ids_match_with_and_without_sub(tmp_path: Path, written_id: str) -> None:
    cohort = load_cohort(written(tmp_path, f"participant_id\tgroup\n{written_id}\tA\n"))
    assert groups(cohort, "01", "sub-01", "sub-1") == ["A", "A", UNKNOWN]


@pytest.mark.parametrize("missing", ["", "n/a", "N/A", "nan", "unknown", "  "])
def test_missing_values_are_unknown(tmp_path: Path, missing: str) -> None:
    path = written(tmp_path, f"participant_id\tgroup\tsite\nsub-01\t{missing}\tx\nsub-02\tB\tx\n")
    assert groups(load_cohort(path), "sub-01", "sub-02") == [UNKNOWN, "B"]


@pytest.mark.parametrize(
    "content",
    [
        TABLE.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + TABLE.encode(),
        ("\n" + TABLE.replace("sub-03", "\n\nsub-03")).encode(),
        TABLE.rstrip("\n").encode(),
        TABLE.replace("sub-02", " sub-02 ").encode(),
    ],
    ids=["CRLF", "byte order mark", "blank lines", "no last newline", "spaces"],
)
def test_tables_from_other_systems_read_the_same(tmp_path: Path, content: bytes) -> None:
    cohort = load_cohort(written(tmp_path, content), sensitive_feature=["sex"])
    assert cohort.columns[0] == "participant_id"
    assert groups(cohort, "sub-01", "sub-02", "sub-03", "sub-04") == ["F", "M", UNKNOWN, "F"]


def test_a_quoted_value_may_hold_a_tab_and_a_stray_quote_inside_a_value_is_a_character(
    tmp_path: Path,
) -> None:
    path = written(tmp_path, 'participant_id\tgroup\tnote\nsub-01\tA\t"a\tb"\nsub-02\tB\t5" scar\n')
    assert groups(load_cohort(path), "sub-01", "sub-02") == ["A", "B"]


def test_one_subgroup_only_is_a_cohort_with_one_known_group(tmp_path: Path) -> None:
    cohort = load_cohort(written(tmp_path, "participant_id\tgroup\nsub-01\tA\nsub-02\tA\n"))
    assert cohort.fairness_on
    assert cohort.known_groups == ("A",)


def test_a_table_of_ids_only_and_a_table_without_rows_are_fine(tmp_path: Path) -> None:
    assert load_cohort(written(tmp_path, "participant_id\nsub-01\n")).subgroup("01") == UNKNOWN
    assert load_cohort(written(tmp_path, "participant_id\tgroup\n")).known_groups == ()


def test_scans_without_a_row_and_rows_without_a_scan_are_counted(tmp_path: Path) -> None:
    cohort = load_cohort(written(tmp_path, TABLE))
    # sub-01 is known, sub-04 has no group, sub-99 no row and two scans.
    assert cohort.count_unknown(["sub-01", "sub-04", "sub-99", "sub-99"]) == 3
    assert cohort.without_scan(["sub-01", "04", "sub-99"]) == ("sub-02", "sub-03")


def test_the_printed_cohort_tells_nobodys_subgroup(tmp_path: Path) -> None:
    cohort = load_cohort(written(tmp_path, TABLE.replace("\tA\t", "\tsecretgroup\t")))
    assert cohort.subgroup("sub-01") == "secretgroup"
    assert "secretgroup" not in repr(cohort)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty; its first line must name the columns"),
        ("\n \n", "is empty"),
        ("participant_id,group\nsub-01,A\n", r"line 1: .*'participant_id,group' holds no tab"),
        ("participant_id;group\nsub-01;A\n", r"line 1: .* holds no tab"),
        ("participant_id group\nsub-01 A\n", r"line 1: .* holds no tab"),
        ("subject\tgroup\nsub-01\tA\n", r"line 1: no column 'participant_id' among subject, group"),
        ("participant_id\tsex\tsex\nsub-01\tF\tF\n", "line 1: column 'sex' stands there twice"),
        ("participant_id\tgroup\nsub-01\n", r"line 2: 1 values where the header names 2 columns"),
        ("participant_id\tgroup\nsub-01\tA\tB\n", "line 2: 3 values where the header names 2"),
        ("participant_id\tgroup\nsub-01\tA\n\nsub-01\tB\n", "line 4: sub-01 stands in line 2"),
        ("participant_id\tgroup\nsub-01\tA\n01\tB\n", "line 3: 01 stands in line 2 already"),
        ("participant_id\tgroup\nn/a\tA\n", "line 2: no participant_id"),
        ('participant_id\tgroup\nsub-01\t"A\nsub-02\tB\n', r"line 3: .*check the quotes"),
        ("participant_id\tgroup\nsub-01\tMé\n".encode("latin-1"), "not UTF-8 .*0xe9"),
        (TABLE.encode("utf-16"), "not UTF-8"),
    ],
)
def test_a_wrong_table_is_refused_with_file_and_line(
    tmp_path: Path, content: str | bytes, sentence: str
) -> None:
    with pytest.raises(CohortError, match=sentence) as caught:
        load_cohort(written(tmp_path, content))
    assert str(tmp_path / "participants.tsv") in str(caught.value)


def test_a_feature_that_does_not_exist_is_refused_with_the_columns_that_do(
    tmp_path: Path,
) -> None:
    with pytest.raises(CohortError, match=r"'race' is no column .*group, sex, age, age_group"):
        load_cohort(written(tmp_path, TABLE), sensitive_feature=["sex", "race"])


def test_age_group_is_not_offered_without_a_column_age(tmp_path: Path) -> None:
    path = written(tmp_path, "participant_id\tsex\nsub-01\tF\n")
    with pytest.raises(CohortError, match=r"'age_group' is no column .*choose among: sex$"):
        load_cohort(path, sensitive_feature=["age_group"])


def test_a_feature_asked_for_without_a_table_is_refused() -> None:
    with pytest.raises(CohortError, match=r"'sex' was asked for, but the study has no participant"):
        load_cohort(None, sensitive_feature=["sex"])


def test_a_table_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"cannot read .*participants.tsv: No such file"):
        load_cohort(tmp_path / "participants.tsv")


@pytest.mark.parametrize("age", ["old", "65y", "inf", "6,5", "+"])
def test_an_age_that_is_no_number_is_refused_without_naming_its_subject(
    tmp_path: Path, age: str
) -> None:
    path = written(tmp_path, f"participant_id\tage\nsub-77\t{age}\n")
    with pytest.raises(CohortError, match=r"line 2: age .* is not a number") as caught:
        load_cohort(path, sensitive_feature=["age_group"])
    assert repr(age) in str(caught.value)
    assert "sub-77" not in str(caught.value)


@pytest.mark.parametrize("age", ["-1", "200", "1e9"])
def test_an_age_outside_the_bins_is_refused_with_the_bins(tmp_path: Path, age: str) -> None:
    path = written(tmp_path, f"participant_id\tage\nsub-01\t{age}\n")
    with pytest.raises(CohortError, match=r"line 2: .*none of the age bins 0, 60, 70, 200"):
        load_cohort(path, sensitive_feature=["age_group"])


def test_an_age_that_is_wrong_does_no_harm_when_age_is_not_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, "participant_id\tgroup\tage\nsub-01\tA\told\n")
    assert load_cohort(path).subgroup("sub-01") == "A"


def test_an_age_capped_as_bids_does_belongs_to_the_last_bin_or_to_none(tmp_path: Path) -> None:
    path = written(tmp_path, "participant_id\tage\nsub-01\t89+\n")
    assert load_cohort(path, sensitive_feature=["age_group"]).subgroup("01") == "70-200"
    with pytest.raises(CohortError, match=r"age '89\+' is in none"):  # it could be 90 or 100
        load_cohort(path, sensitive_feature=["age_group"], age_bins=[0, 80, 95, 120])


@pytest.mark.parametrize("bins", [[], [60], [0, 60, 60], [70, 60], [0, float("nan")]])
def test_age_bins_that_do_not_rise_are_refused(tmp_path: Path, bins: list[float]) -> None:
    with pytest.raises(CohortError, match="age_bins must be at least two rising numbers"):
        load_cohort(written(tmp_path, TABLE), age_bins=bins)


def test_one_string_is_not_taken_for_a_list_of_letters(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="must be a sequence of names, not 'sex'"):
        load_cohort(written(tmp_path, TABLE), sensitive_feature="sex")
