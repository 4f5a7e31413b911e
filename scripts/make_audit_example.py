"""An example audit on made-up maps, and the picture of its report in the docs.

    python scripts/make_audit_example.py OUT [--picture docs/images/audit-report.png]

Balls in noise, 72 cases: women are segmented worse, and the model does not know it: their
probabilities are as sharp as those of men. The second model was told. The picture needs chromium.
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.special import expit

from fair_strategy.data.volumes import write_image, write_mask
from fair_strategy.workflows.audit.audit import Source, run_audit
from fair_strategy.workflows.audit.report import write_audit
from fair_strategy.workflows.audit.settings import AuditSettings

CASES = 72
SHAPE = (22, 22, 22)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def main() -> None:
    """Make the cases, audit them, and perhaps take the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    people = _people(np.random.default_rng(20260521))
    table = given.out / "participants.tsv"
    table.parent.mkdir(parents=True, exist_ok=True)
    lines = ["participant_id\tsex\tage", *(f"{name}\t{sex}\t{age}" for name, sex, age in people)]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for number, (name, sex, _) in enumerate(people):
        _write_case(given.out, name, number, hard=sex == "F")
    audits, changes = run_audit(
        [Source(given.out / "model-A"), Source(given.out / "model-B")],
        "segmentation", table, ["sex", "age_group"],
        age_bins=(0, 60, 75, 120), settings=AuditSettings(draws=500),
    )  # fmt: skip
    paths = write_audit(audits[:1], [], given.out / "audit")
    write_audit(audits, changes, given.out / "audit-against")
    print(paths.html)
    if given.picture:
        _take_picture(paths.html, given.picture)


def _people(rng: np.random.Generator) -> list[tuple[str, str, int]]:
    return [
        (f"sub-{i + 1:03d}", "F" if i % 2 else "M", int(rng.integers(45, 92))) for i in range(CASES)
    ]


def _write_case(out: Path, name: str, number: int, *, hard: bool) -> None:
    rng = np.random.default_rng([number, 1])
    axes = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    centre = np.array(SHAPE) / 2 + rng.uniform(-1, 1, 3)
    radius = rng.uniform(5, 7)
    distance = np.sqrt(sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True))) - radius
    for model, spread in (("model-A", 1.9 if hard else 0.9), ("model-B", 1.3 if hard else 1.0)):
        error = ndimage.gaussian_filter(rng.normal(0, 1, SHAPE), 2.0)
        error *= spread * rng.uniform(0.6, 1.4) / error.std()
        softness = 0.5 if model == "model-A" else 0.25 + 0.45 * spread
        folder = out / model / name
        write_mask(folder / "reference.nii.gz", distance <= 0, AFFINE)
        probability = expit(-(distance + error) / softness)
        write_image(folder / "probability.nii.gz", probability, AFFINE)


def _take_picture(page: Path, picture: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("the picture needs chromium")
    picture.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             f"--user-data-dir={profile}", "--force-device-scale-factor=1",
             "--blink-settings=preferredColorScheme=1", "--window-size=1180,1500",
             f"--screenshot={picture.resolve()}", page.resolve().as_uri()],
            check=True, capture_output=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
