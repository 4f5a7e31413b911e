"""One reader's process: ``python -m fair_strategy.viewer.worker``, started by the broker.

It writes one line to standard output when it serves: `ready PORT`. The secret that its page must
know comes in the environment, which other users of the machine cannot read. A line
`reader "NAME"` on its standard input tells whom a proxy has logged in. It ends when its standard
input does, so never outlives the broker; what was drawn is kept as a draft first. So it is when it
is told to end: Ctrl-C at a terminal and the end of a service tell each process, not the broker
alone.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fair_strategy.config_proxy import read_secret

SECRET_VARIABLE = "FAIR_STRATEGY_REVIEW_SECRET"
HOST = "127.0.0.1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one page until standard input ends; exit status 0."""
    asked = _parser().parse_args(arguments)
    secret = os.environ.pop(SECRET_VARIABLE, "")
    if not secret:
        sys.stderr.write(f"{SECRET_VARIABLE} is empty: a page without a secret is not served\n")
        return 2
    from trame.app import get_server

    from fair_strategy.viewer.page import ReviewPage
    from fair_strategy.viewer.reading import Reading
    from fair_strategy.viewer.scene import ReviewScene

    server = get_server(client_type="vue3")
    server.cli.set_defaults(authKey=secret)
    del sys.argv[1:]  # trame would read the same line in its own way
    with tempfile.TemporaryDirectory(prefix="fair-strategy-review-") as folder:
        reading = Reading(
            ReviewScene(),
            url=asked.server,
            folder=Path(folder),
            rescue=Path(asked.rescue),
            proxy_secret=read_secret(asked.proxy_secret_file) if asked.proxy_secret_file else "",
        )
        page = ReviewPage(server, reading)
        server.controller.on_server_ready.add(lambda **_: _ready(server, page))
        server.start(
            port=0,
            host=HOST,
            timeout=0,  # the broker decides
            open_browser=False,
            show_connection_info=False,
            disable_logging=True,
        )
    return 0


def _ready(server: Any, page: Any) -> None:
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), lambda: _on_input(loop, server, page))
    for told in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(told, lambda: _begin_to_end(loop, server, page))
    sys.stdout.write(f"\nready {server.port}\n")
    sys.stdout.flush()


def _on_input(loop: asyncio.AbstractEventLoop, server: Any, page: Any) -> None:
    told = os.read(sys.stdin.fileno(), 4096)
    if told:
        for line in told.decode().splitlines():
            word, _, name = line.partition(" ")
            if word == "reader":
                page.bind(json.loads(name))
        return
    loop.remove_reader(sys.stdin.fileno())
    _begin_to_end(loop, server, page)


def _begin_to_end(loop: asyncio.AbstractEventLoop, server: Any, page: Any) -> None:
    if page.ending is None:  # a signal, and the end of the input after it
        page.ending = loop.create_task(_end(server, page))


async def _end(server: Any, page: Any) -> None:
    try:
        await page.close()
    except Exception:  # whatever it was, the process ends
        logging.getLogger(__name__).exception("the draft could not be kept")
    await server.stop()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fair_strategy.viewer.worker")
    parser.add_argument("--server", required=True, help="address of the MONAI Label server")
    parser.add_argument("--rescue", required=True, help="where drafts wait for the server")
    parser.add_argument("--proxy-secret-file", type=Path, help="where a proxy logs readers in")
    return parser


if __name__ == "__main__":
    sys.exit(main())
