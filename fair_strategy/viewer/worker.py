"""One reader's process: ``python -m fair_strategy.viewer.worker``, started by the broker.

It writes one line to standard output when it serves: `ready PORT`. The secret that its page must
know comes in the environment, which other users of the machine cannot read.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SECRET_VARIABLE = "FAIR_STRATEGY_REVIEW_SECRET"
HOST = "127.0.0.1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one page until nobody is connected for the time given; exit status 0."""
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
            ReviewScene(), url=asked.server, folder=Path(folder), rescue=Path(asked.rescue)
        )
        ReviewPage(server, reading)
        server.controller.on_server_ready.add(lambda **_: _say_ready(server.port))
        server.start(
            port=0,
            host=HOST,
            timeout=asked.timeout,
            open_browser=False,
            show_connection_info=False,
            disable_logging=True,
        )
    return 0


def _say_ready(port: int) -> None:
    sys.stdout.write(f"\nready {port}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fair_strategy.viewer.worker")
    parser.add_argument("--server", required=True, help="address of the MONAI Label server")
    parser.add_argument("--rescue", required=True, help="where drafts wait for the server")
    parser.add_argument("--timeout", type=int, default=60, help="seconds without a page, then end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
