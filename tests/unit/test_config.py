import pytest

from fair_strategy.acquisition.weights import RULES
from fair_strategy.config import (
    HostSettings,
    SettingsError,
    StudySettings,
    parse_conf,
    parse_settings,
)


def test_strings_of_the_command_line_become_typed_values():
    study, host = parse_conf(
        {
            "sensitive_feature": "sex, age_group",
            "age_bins": "0,50,100",
            "margin_mm": "2.5",
            "allow_remote": "true",
        }
    )
    assert study.sensitive_feature == ("sex", "age_group")
    assert study.age_bins == (0.0, 50.0, 100.0)
    assert study.margin_mm == 2.5
    assert host.allow_remote is True


def test_an_unknown_option_is_refused_and_the_good_ones_are_listed():
    with pytest.raises(SettingsError, match=r"'margin'.*margin_mm"):
        parse_conf({"margin": "2"})


def test_keys_of_the_host_are_let_through_when_named():
    study, _ = parse_conf({"models": "caudate"}, ignore={"models"})
    assert study == StudySettings()


@pytest.mark.parametrize(
    ("key", "value"),
    [("margin_mm", "wide"), ("rule", "fairest"), ("audit_every", "-1"), ("passes", "0")],
)
def test_a_bad_value_names_option_and_value(key, value):
    with pytest.raises(SettingsError, match=rf"{key}.*{value}"):
        parse_settings(StudySettings, {key: value})


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "many"])
def test_what_a_pacs_may_leave_on_the_disk_is_a_number_of_gb_and_0_is_all(value):
    assert parse_settings(HostSettings, {"pacs_keep_gb": "0"}).pacs_keep_gb == 0
    assert parse_settings(HostSettings, {"pacs_keep_gb": "2.5"}).pacs_keep_gb == 2.5
    with pytest.raises(SettingsError, match=rf"pacs_keep_gb.*{value}"):
        parse_settings(HostSettings, {"pacs_keep_gb": value})


def test_settings_cannot_be_changed_after_validation():
    with pytest.raises(ValueError, match="frozen"):
        HostSettings().allow_remote = True


def test_each_objective_of_the_settings_is_one_of_the_library():
    from fair_strategy.learning.objectives import OBJECTIVES, ObjectiveSettings

    for name in OBJECTIVES:
        assert parse_settings(StudySettings, {"objective": name}).objective == name
    with pytest.raises(SettingsError, match=r"'erm', 'balanced' or 'group_dro', got 'dro'"):
        parse_settings(StudySettings, {"objective": "dro"})
    default, library = StudySettings(), ObjectiveSettings()
    assert (default.objective, default.objective_eta) == (library.name, library.eta)
    assert default.objective_adjustment == library.adjustment


def test_each_rule_of_the_settings_is_a_rule_of_the_library():
    for rule in RULES:
        assert parse_settings(StudySettings, {"rule": rule, "attainable": "A=0.9"}).rule == rule
    with pytest.raises(SettingsError):
        parse_settings(StudySettings, {"rule": "none of them"})


def test_an_entropy_per_boundary_is_of_the_roi_alone():
    assert (
        parse_settings(StudySettings, {"region": "volume", "reduction": "sum"}).region == "volume"
    )
    with pytest.raises(SettingsError, match="per_boundary needs region roi"):
        parse_settings(StudySettings, {"region": "volume", "reduction": "per_boundary"})
    with pytest.raises(SettingsError, match=r"region.*brain"):
        parse_settings(StudySettings, {"region": "brain"})


def test_attainable_performance_is_read_by_subgroup_and_asked_for_where_a_rule_needs_it():
    chosen = parse_settings(StudySettings, {"attainable": "A=0.9,B=0.87"})
    assert dict(chosen.attainable) == {"A": 0.9, "B": 0.87}
    with pytest.raises(SettingsError, match="reducible_error needs attainable"):
        parse_settings(StudySettings, {"rule": "reducible_error"})
