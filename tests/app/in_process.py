"""The application in this process, as apps/fair_caudate/main.py makes it, on a tiny study."""

import warnings
from pathlib import Path

import pytest
from fastapi import FastAPI
from monailabel.endpoints import datastore as stock_datastore, info as stock_info
from monailabel.interfaces.app import MONAILabelApp

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # starlette names a class of anyio by its old name
    from fastapi.testclient import TestClient

from fair_strategy.config import HostSettings
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


def client_of(app: App, patch: pytest.MonkeyPatch, **conf: str) -> TestClient:
    """A client of our routes and of those of the stock server that ours stand before."""
    routes = [
        f"fair_strategy.host.routes.{name}"
        for name in ("lead", "lead_figures", "reader", "review", "transfer", "work")
    ]
    for module in (*routes, stock_datastore.__name__, stock_info.__name__):
        patch.setattr(f"{module}.app_instance", lambda: app)
    web = FastAPI()
    web.include_router(stock_info.router)
    web.include_router(stock_datastore.router)
    server.attach(web, HostSettings(allow_remote=True, **conf))
    return TestClient(web, follow_redirects=False)
