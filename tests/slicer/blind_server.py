"""Our routes over HTTP, in a thread of this process, for a study whose every scan hides the model.

Such scans are rare, and drawn at random; a server of its own makes all of them so.
"""

import asyncio
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from monailabel.endpoints import (
    datastore as stock_datastore,
    info as stock_info,
    login as stock_auth,
    train as stock_train,
)
from monailabel.interfaces.app import MONAILabelApp

from fair_strategy.config import HostSettings
from fair_strategy.host import server
from fair_strategy.host.app import FairAppMixin
from fair_strategy.workflows.performance import compare_labels
from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.scoring import score_study
from tests.app import cohorts, serving

CONF = {"estimator": "prequential", "audit_every": "1", "quota_batch": "0"}


class App(FairAppMixin, MONAILabelApp):
    """As apps/fair_caudate/main.py does it."""


def blind_app(root: Path) -> App:
    """A study that was scored and planned, each row of its plan drawn at random."""
    cohorts.write_cohort(root / "studies", per_group=3)
    cohorts.write_model(root / "app" / "model" / "pretrained.pt")
    conf = {**CONF, "state_dir": str(root / "state"), "validation_per_group": "0"}
    app = App(app_dir=str(root / "app"), studies=str(root / "studies"), conf=conf)
    server.bring_up(app.study)
    score_study(app.study)
    with app.study.store.transaction() as connection:
        # The tests' model is untrained: its every output is implausible, which would come first.
        connection.execute("UPDATE scores SET flags = '[]'")
    compare_labels(app.study)
    make_plans(app.study)
    return app


OURS = tuple(f"fair_strategy.host.routes.{name}" for name in ("reader", "review", "work"))
STOCK = (stock_auth, stock_datastore, stock_info, stock_train)


def put_in_place(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application that the routes of `running` serve."""
    for module in (*OURS, *(stock.__name__ for stock in STOCK)):
        monkeypatch.setattr(f"{module}.app_instance", lambda: app, raising=False)


@contextmanager
def running() -> Iterator[str]:
    """The address of a server for our routes and the stock ones that Slicer needs beside them."""
    web = FastAPI()
    for stock in STOCK:
        web.include_router(stock.router)
    server.attach(web, HostSettings())
    port = serving.free_port()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # uvicorn's own imports
        served = uvicorn.Server(uvicorn.Config(web, port=port, log_level="error", ws="none"))
    thread = threading.Thread(target=lambda: asyncio.run(served.serve()))
    thread.start()
    try:
        serving.wait_for(lambda: served.started, what="server in a thread", within_s=30)
        yield f"http://127.0.0.1:{port}"
    finally:
        served.should_exit = True
        thread.join(timeout=30)
