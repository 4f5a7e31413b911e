"""The study at a glance, and the report of its last audit."""

from pathlib import Path

from fair_strategy.store import cases, scores
from fair_strategy.workflows.intake import IMPORTER
from fair_strategy.workflows.overview.counts import counts, excluded
from fair_strategy.workflows.overview.figures import Counts, Summary
from fair_strategy.workflows.overview.keeping import SHORT, moment
from fair_strategy.workflows.study import Study, StudyError
from fair_strategy.workflows.study_audit import latest_audit

OFF = "No sensitive feature is in use, so there are no subgroups to compare."


def summary(study: Study, *, min_cell: int) -> Summary:
    """What is studied, by which model, how far it is, and what was taken out."""
    settings, cohort = study.settings, study.cohort()
    models = scores.models(study.store)
    current = scores.current_model(study.store)
    table = counts(study, min_cell=min_cell)
    return Summary(
        study=study.images_dir.name,
        sensitive_feature=" x ".join(cohort.features),
        subgroups=tuple(sorted(set(study.subgroups().values()))),
        rule=settings.rule,
        estimator=settings.estimator,
        objective=settings.objective,
        min_cell=min_cell,
        model=current.checksum[:SHORT] if current else None,
        model_number=[m.checksum for m in models].index(current.checksum) + 1 if current else 0,
        model_created_at=moment(current.created_at) if current else None,
        labels_since=_labels_since(study, table),
        counts=table,
        excluded=excluded(study),
        audit_report=latest_audit_report(study) is not None,
        note="" if cohort.fairness_on else OFF,
    )


def reopen(study: Study, case_id: str) -> None:
    """Undo an exclusion: the scan is offered again, or counts again with its label.

    Raises:
        UnknownCaseError: for an unknown case.
        StudyError: if it is not excluded.
    """
    if cases.case(study.store, case_id).excluded is None:
        raise StudyError(f"{case_id} is not excluded; there is nothing to undo")
    cases.exclude(study.store, case_id, None)


def latest_audit_report(study: Study) -> Path | None:
    """The report of the newest model that has an audit; None if there is none, or too few cases."""
    told = latest_audit(study)
    return None if told is None or told.sentence else told.folder / "report.html"


def _labels_since(study: Study, table: Counts) -> int:
    at = table.refreshed.at
    return sum(
        label.client_id != IMPORTER and (at is None or moment(label.created_at) > at)
        for label in cases.labels(study.store, "final")
    )
