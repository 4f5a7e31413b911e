"""What readers do and see in the tests of desk and review, in few words."""

import numpy as np

from fair_strategy.data.volumes import write_mask
from fair_strategy.store import plans
from fair_strategy.workflows.desk import next_case, submit
from fair_strategy.workflows.performance import compare_labels
from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.scoring import score_study
from fair_strategy.workflows.study import open_study
from tests.helpers import AFFINE, blob

STRATEGY = "weighted_entropy"


def ready(study):
    """The study, scored and planned."""
    score_study(study)
    with study.store.transaction() as connection:  # untrained: every prediction is implausible
        connection.execute("UPDATE scores SET flags = '[]'")
    compare_labels(study)
    make_plans(study)
    return study


def with_readers(study, readers):
    """The same study, opened again with another number of readers."""
    settings = study.settings.model_copy(update={"readers_per_case": readers})
    return open_study(
        study.images_dir, settings, state_dir=study.state_dir, shipped_model=study.shipped_model
    )


def mask_of(case_id, folder):
    """A file with the true mask of a scan."""
    path = folder / "mask.nii.gz"
    write_mask(path, blob(int(case_id[4:6]))[1], AFFINE)
    return path


def take(study, client_id="anna"):
    return next_case(study, STRATEGY, client_id).case_id


def submit_own(study, case_id, folder, client_id="anna"):
    return submit(study, case_id, mask_of(case_id, folder), client_id=client_id)


def assert_no_field_tells_the_group(study, seen):
    """No field tells group B from A better than the entropy does.

    Args:
        seen: of each scan its id, and name -> value of what a reader sees.
    """
    rows = plans.rows(study.store, plans.latest_plan(study.store, STRATEGY).plan_id)
    entropy = {row.case_id: row.score for row in rows}
    subgroups = study.subgroups()
    is_b = np.array([subgroups[case_id] == "B" for case_id, _ in seen])
    limit = separation(is_b, [entropy[case_id] for case_id, _ in seen])
    for field in seen[0][1]:
        values = [visible[field] for _, visible in seen]
        numbers = [v if isinstance(v, int | float) else len(str(v)) for v in values]
        assert separation(is_b, numbers) <= limit + 1e-9, field


def separation(is_b, values):
    """max(AUC, 1 - AUC): how well the values tell B from A, 0.5 (not at all) to 1."""
    values = np.asarray(values, float)
    above = values[is_b][:, None] - values[~is_b][None, :]
    area = np.mean((above > 0) + 0.5 * (above == 0))
    return max(area, 1 - area)
