"""``fair-strategy review``: the review page in a browser, for readers who install nothing."""

import ipaddress
import logging
import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from fair_strategy.cli.options import fail, say


def review(
    server: Annotated[
        str, typer.Option(metavar="URL", help="the running MONAI Label server")
    ] = "http://127.0.0.1:8000",
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to listen on")] = 8010,
    readers: Annotated[
        int | None, typer.Option(min=1, help="sessions at most; default: number of cores")
    ] = None,
    spare: Annotated[int, typer.Option(min=0, help="sessions kept warm for the next reader")] = 1,
    keep_seconds: Annotated[
        float, typer.Option(min=1, help="how long a session waits for its closed page")
    ] = 120.0,
    idle_minutes: Annotated[
        float, typer.Option(min=0.05, help="how long a session lives in which nothing is done")
    ] = 60.0,
    public_host: Annotated[
        list[str] | None, typer.Option(help="a name under which readers reach the page")
    ] = None,
    proxy_secret_file: Annotated[
        Path | None, typer.Option(help="where a proxy logs readers in: as the server's option")
    ] = None,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="needed to listen on more than loopback")
    ] = False,
) -> None:
    """Serve the review page: 3D Slicer's core in a browser, one process a reader, on one port.

    Needs a running server (`monailabel start_server`), the extra `viewer` and OpenGL libraries;
    what is missing is said before anything starts. A reader logs in with a name only: put a proxy
    with TLS and passwords in front before other machines are let in, and give --public-host.
    """
    try:
        from fair_strategy.viewer.broker import serve
        from fair_strategy.viewer.drafts import default_rescue_folder
        from fair_strategy.viewer.opengl import RenderingError, check_rendering
        from fair_strategy.viewer.pool import Pool, PoolSettings
    except ModuleNotFoundError as error:
        fail(f"{error.name} is missing: pip install 'fair-strategy[viewer]'", code=1)
    if not _is_loopback(host) and not allow_remote:
        fail(f"--host {host} lets other machines in; if that is meant, add --allow-remote", code=2)
    try:
        check_rendering()
    except RenderingError as error:
        fail(str(error), code=1)
    _begin_log()
    most = readers or os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="fair-strategy-broker-") as logs:
        settings = PoolSettings(
            server=server.rstrip("/"),
            logs=Path(logs),
            rescue=default_rescue_folder(),
            most=most,
            spare=min(spare, most),
            keep_s=keep_seconds,
            idle_s=60.0 * idle_minutes,
            proxy_secret_file=proxy_secret_file,
        )
        say(f"Review page for {server}: http://{host}:{port}/ ({most} readers at most)")
        serve(Pool(settings), host=host, port=port, hosts=frozenset(public_host or ()))


def _begin_log() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
