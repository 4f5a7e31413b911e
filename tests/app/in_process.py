"""The application in this process, as apps/fair_caudate/main.py makes it, on a tiny study."""

from pathlib import Path

from monailabel.interfaces.app import MONAILabelApp

from fair_strategy.host import server
from fair_strategy.host.app import FairAppMixin
from tests.app import cohorts


class App(FairAppMixin, MONAILabelApp):
    """As apps/fair_caudate/main.py does it."""


def write_folders(root: Path, *, per_group: int = 2) -> None:
    """Scans in `studies`, a model in `app`."""
    cohorts.write_cohort(root / "studies", per_group=per_group)
    cohorts.write_model(root / "app" / "model" / "pretrained.pt")


def application(root: Path, **conf: str) -> App:
    """The application on those folders, with its state in `state`."""
    options = {"state_dir": str(root / "state"), **conf}
    return App(app_dir=str(root / "app"), studies=str(root / "studies"), conf=options)


def brought_up(root: Path, *, per_group: int = 2, **conf: str) -> App:
    """The folders and the application, its scans taken up and planned."""
    write_folders(root, per_group=per_group)
    made = application(root, **conf)
    server.bring_up(made.study)
    return made
