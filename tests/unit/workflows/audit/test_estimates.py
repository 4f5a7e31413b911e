"""Estimates, intervals, nulls, corrections: by hand, or against the plain measure."""

import numpy as np
import pandas as pd
import pytest

from fair_strategy.data.cohort import CohortError
from fair_strategy.metrics import fairness
from fair_strategy.metrics.calibration import expected_calibration_error
from fair_strategy.workflows.audit.audit import Source, run_audit
from fair_strategy.workflows.audit.comparison import compare
from fair_strategy.workflows.audit.estimates import holm, signed_gap
from fair_strategy.workflows.audit.resampling import draw_resamples
from fair_strategy.workflows.audit.settings import AuditSettings
from tests import audit_tables as tables


def result(audit, measure, feature="group"):
    found = (r for r in audit.results if (r.measure.name, r.feature) == (measure, feature))
    return next(found)


def test_holm_by_hand():
    # Sorted .01 .02 .04: times 3, 2, 1 = .03 .04 .04; NaN counts in the family of 4.
    assert holm({0: 0.04, 1: 0.01, 2: 0.02}) == pytest.approx({0: 0.04, 1: 0.03, 2: 0.04})
    corrected = holm({0: 0.01, 1: float("nan")})
    assert corrected[0] == pytest.approx(0.02)
    assert np.isnan(corrected[1])
    assert holm({0: 0.6, 1: 0.7}) == {0: 1.0, 1: 1.0}


def test_every_value_is_that_of_the_plain_measure(tmp_path):
    table = tables.classes(60, seed=11)
    audit = tables.audited(tmp_path, table, "classification")
    probs = table[["p_benign", "p_malignant"]].to_numpy()
    right = table.reference.to_numpy() == np.where(probs[:, 0] >= 0.5, "benign", "malignant")
    labels = list(tables.groups(60))
    accuracy = result(audit, "accuracy")
    assert accuracy.gap.value == pytest.approx(fairness.gap(right, labels))
    assert accuracy.overall.value == pytest.approx(right.mean())
    for variant in ("fairseg", "std"):
        whole = accuracy.ratios[f"equity_scaled_{variant}"].value
        assert whole == pytest.approx(
            fairness.equity_scaled(right.astype(float), labels, variant=variant)
        )
    ratio = accuracy.ratios["skewed_error_ratio"].value
    assert ratio == pytest.approx(fairness.skewed_error_ratio(right.astype(float), labels))
    own = expected_calibration_error(probs[:30].max(axis=1), right[:30])
    assert result(audit, "ece").by_group["A"].value == pytest.approx(own)
    assert {accuracy.by_group[name].n for name in "AB"} == {30}


def test_rmse_is_a_root_of_means_in_groups_and_intervals(tmp_path):
    table = tables.quantities(40, seed=12)
    audit = tables.audited(tmp_path, table, "regression")
    error = (table.prediction - table.reference).to_numpy()
    own = result(audit, "rmse").by_group["A"]
    assert own.value == pytest.approx(np.sqrt((error[:20] ** 2).mean()))
    assert own.interval[0] < own.value < own.interval[1]
    assert own.value != pytest.approx(np.abs(error[:20]).mean())


def test_the_bootstrap_interval_of_a_mean_is_near_students(tmp_path):
    table = tables.regions(120, seed=13)
    settings = AuditSettings(draws=400)
    audit = tables.audited(tmp_path, table, "segmentation", settings=settings)
    own = result(audit, "dice").by_group["A"]
    expected = fairness.by_group(table.dice.to_numpy(), list(tables.groups(120)))["A"].interval
    width = expected[1] - expected[0]
    assert own.interval == pytest.approx(expected, abs=0.25 * width)


def test_scans_of_one_person_are_drawn_together():
    labels = np.array(["A"] * 4 + ["B"] * 2)
    counts = draw_resamples(labels, np.array([0, 0, 1, 1, 2, 3]), draws=50, seed=0).counts
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 2] == counts[:, 3]).all()
    assert (counts[:, :4].sum(axis=1) == 4).all()
    assert (counts[:, 4:].sum(axis=1) == 2).all()


def test_repeated_scans_of_the_same_persons_do_not_make_a_gap_significant(tmp_path):
    once = tables.regions(12, seed=14, bias=0.05)
    many = pd.concat([once.assign(case=once.case + f"_{k}", subject=once.case) for k in range(8)])
    many.to_csv(tmp_path / "many.csv", index=False)
    people = tables.participants(tmp_path, tables.groups(12))
    audit = run_audit(
        [Source(tmp_path / "many.csv")], "segmentation", people, ["group"], settings=tables.FEW
    )[0][0]
    single = tables.audited(tmp_path, once, "segmentation")
    for measure in ("dice", "volume_error"):
        assert result(audit, measure).gap.p == pytest.approx(result(single, measure).gap.p, abs=0.1)
    estimate = result(audit, "dice").by_group["A"]
    assert (estimate.n, estimate.persons) == (48, 6)


def test_the_interval_of_a_gap_is_of_two_fixed_subgroups():
    drawn = [np.array([1.0, 3.0]), np.array([2.0, 2.0]), np.array([5.0, 0.0])]
    assert signed_gap([0.1, 0.5, 0.9], drawn).tolist() == [4.0, -3.0]


def test_small_and_unknown_subgroups_are_listed_and_not_ranked(tmp_path):
    table = tables.regions(24, seed=15)
    table.to_csv(tmp_path / "p.csv", index=False)
    sexes = ["F", "M"] * 11 + ["n/a", "X"]
    people = tables.participants(tmp_path, tables.groups(24), sex=sexes)
    audit = run_audit(
        [Source(tmp_path / "p.csv")], "segmentation", people, ["sex", "group"],
        settings=tables.FEW,
    )[0][0]  # fmt: skip
    by_name = {grouping.feature: grouping for grouping in audit.groupings}
    assert by_name["sex"].ranked == ("F", "M")
    assert set(by_name["sex"].names) == {"F", "M", "X", "unknown"}
    assert by_name["sex x group"].ranked == ()  # six or fewer each, ten are needed
    assert result(audit, "dice", "sex x group").gap is None
    own = result(audit, "dice", "sex").by_group["X"]
    assert (own.n, own.ranked, own.small) == (1, False, True)
    assert np.isnan(own.interval).all()
    flagged = " ".join(flag.what for flag in audit.flags)
    assert "subgroup X has fewer than 5" in flagged
    assert "1 cases have no value" in flagged
    assert "sex x group: fewer than two subgroups are large enough" in flagged


def test_a_subgroup_of_the_table_without_cases_is_named_with_n_zero(tmp_path):
    table = tables.regions(20, seed=16)
    table.to_csv(tmp_path / "p.csv", index=False)
    people = tables.participants(tmp_path, tables.groups(20) + "C")
    audit = run_audit(
        [Source(tmp_path / "p.csv")], "segmentation", people, ["group"], settings=tables.FEW
    )[0][0]
    own = result(audit, "dice").by_group["C"]
    assert own.n == 0
    assert np.isnan(own.value)


def test_two_equal_models_do_not_differ_and_a_better_one_is_named(tmp_path):
    first = tables.regions(40, seed=17)
    first["dice"] *= 0.9
    better = first.assign(dice=first.dice + 0.05 * (np.arange(40) >= 20))
    people = tables.participants(tmp_path, tables.groups(40))
    for name, table in (("one", first), ("two", better)):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    sources = [Source(tmp_path / "one.csv"), Source(tmp_path / "two.csv")]
    audits, changes = run_audit(sources, "segmentation", people, ["group"], settings=tables.FEW)
    dice = {(c.part, c.group): c for c in changes if c.measure.name == "dice"}
    assert dice["group", "B"].difference == pytest.approx(0.05)
    assert dice["group", "B"].interval == pytest.approx((0.05, 0.05))  # paired: no spread
    assert dice["group", "B"].named
    assert not dice["group", "A"].named
    assert dice["overall", ""].difference == pytest.approx(0.025)
    same = compare(audits[0].evidence, audits[0].evidence, audits[0].groupings, tables.FEW)
    assert {c.difference for c in same if not np.isnan(c.difference)} == {0.0}
    assert not any(c.named for c in same)


def test_models_on_other_cases_are_refused(tmp_path):
    first = tables.regions(20, seed=18)
    first.to_csv(tmp_path / "one.csv", index=False)
    first[:-1].to_csv(tmp_path / "two.csv", index=False)
    people = tables.participants(tmp_path, tables.groups(20))
    sources = [Source(tmp_path / "one.csv"), Source(tmp_path / "two.csv")]
    with pytest.raises(CohortError, match=r"other cases, such as c019 \(1 in all\)"):
        run_audit(sources, "segmentation", people, ["group"], settings=tables.FEW)
