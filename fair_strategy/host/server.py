"""Everything that only the server process does: lock, guard, routes, watcher, background."""

import argparse
import logging
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress

from fastapi import FastAPI

from fair_strategy.config import HostSettings
from fair_strategy.data.cohort import CohortError
from fair_strategy.host.access import Proxy
from fair_strategy.host.background import Background, Watching
from fair_strategy.host.errors import storage_answer
from fair_strategy.host.guard import Guard, is_loopback
from fair_strategy.host.lead import LeadAccess, TokenFromAddress, blank_log
from fair_strategy.host.sentences import sentence, without_values
from fair_strategy.host.watcher import Watcher
from fair_strategy.store import ServerRunning, StoreError, plans
from fair_strategy.store.database import StateLock, backup, hold
from fair_strategy.store.faults import storage_fault
from fair_strategy.workflows.desk import pending_work
from fair_strategy.workflows.double_reading import settle_all
from fair_strategy.workflows.erasure import finish_erasure
from fair_strategy.workflows.intake import prepare, refresh
from fair_strategy.workflows.planning import ALWAYS_MADE, make_plans
from fair_strategy.workflows.rebuilding import rebuild
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)


def take_hold(study: Study) -> StateLock:
    """The one server's hold on the study.

    Raises:
        ServerRunning: if another server has it, or if this is one of several workers.
    """
    if multiprocessing.parent_process() is not None:
        sentence = "--workers 2 or more: one study has one server with one worker; leave it out"
        log.error(sentence)
        # Uvicorn would start a worker that fails again, for ever.
        os.kill(os.getppid(), signal.SIGTERM)
        raise ServerRunning(sentence)
    return hold(study.state_dir)


def bring_up(study: Study) -> None:
    """Back up the database, take up the image folder, freeze validation, renew the leases.

    After a restoration of the database what came since the copy is taken over first. An erasure
    that was cut off is ended before anything else: no copy may be made of what is to go.

    A new study gets its first plans here: Next Sample answers from the first second.
    """
    try:
        finish_erasure(study)
    except (sqlite3.Error, OSError, StoreError, ValueError) as error:  # begun again next time
        log.error("an erasure was not ended: %s", storage_fault(error) or sentence(error))
    try:
        backup(study.store)
    except (sqlite3.Error, OSError, StoreError) as error:  # the copies of before stay
        log.error("no copy of the database was made: %s", storage_fault(error) or sentence(error))
    for note in (*rebuild(study), *prepare(study)):
        log.warning("%s", without_values(note))
    if plans.plan_head(study.store, ALWAYS_MADE) is None:
        with suppress(CohortError):  # said by `prepare`; the loop plans once the table is mended
            make_plans(study)
    plans.renew_all(study.store, now=time.monotonic(), lease_s=60.0 * study.settings.lease_minutes)
    settle_all(study)  # fewer readers a scan than before may be enough now


def attach(app: FastAPI, settings: HostSettings) -> None:
    """Put our routes before MONAI Label's, and the guard around everything."""
    from fair_strategy.host.routes import lead, lead_figures, logs, reader, review, transfer, work
    from fair_strategy.host.routes.routing import describe

    parts = (reader, review, work, transfer, lead, lead_figures, logs)
    ours = [route for part in parts for route in part.router.routes]
    app.router.routes[:0] = ours
    describe(app, ours)
    app.state.lead = LeadAccess.of(settings)
    for kind in (sqlite3.Error, OSError):
        app.add_exception_handler(kind, storage_answer)
    # The stack was built when the server started up, before this: build it anew, and wrap it.
    guarded = Guard(app.build_middleware_stack(), settings, Proxy.of(settings))
    app.middleware_stack = TokenFromAddress(guarded)


def exposure(arguments: Sequence[str], settings: HostSettings) -> str | None:
    """What is dangerous about where the server listens, as a sentence; None if nothing is.

    Args:
        arguments: of ``monailabel start_server``, which tells its application no address.
        settings: of this server.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-i", "--host", default="0.0.0.0")
    host = parser.parse_known_args(list(arguments))[0].host
    if host == "localhost" or is_loopback(host):
        return None
    if settings.proxy_secret_file is not None:
        return (
            f"listens on {host} and not on this machine alone: who reads the network reads scans, "
            "and the proxy's secret; let the proxy run here, and start with --host 127.0.0.1"
        )
    if settings.allow_remote:
        return (
            f"listens on {host} and asks nobody who they are: whoever reaches this port reads the "
            "scans and can submit under any name; put a proxy in front, see deploy/README.md"
        )
    return f"listens on {host} but answers this machine alone; --host 127.0.0.1 says so to others"


def announce(app: FastAPI, port: int) -> None:
    """Tell the console where the dashboard is, once; the log keeps no token."""
    from fair_strategy.host.routes.logs import log_file

    blank_log(app.state.lead, log_file())
    app.state.lead.announce(port)


def background_of(study: Study, settings: HostSettings) -> Background:
    """The loop that watches the folder or the PACS, and works; not started yet."""
    watcher: Watching
    if study.pacs is None:
        watcher = Watcher(study.images_dir, lambda: refresh(study))
    else:
        from fair_strategy.host.dicomweb import PacsWatcher

        watcher = PacsWatcher(study, poll_s=settings.pacs_poll_s)
    return Background(study, watcher, pending=pending_work, enabled=settings.enable_background)
