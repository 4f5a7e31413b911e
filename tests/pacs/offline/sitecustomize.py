"""Loaded at the start of every Python process of a server under test: no way out of this machine.

Each attempt to look up or to reach another machine is noted in the file that OFFLINE_NOTES names,
and fails.
"""

import ipaddress
import os
import sys


def _refuse(event: str, arguments: tuple) -> None:
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto"):
        host = arguments[1][0] if isinstance(arguments[1], tuple) else None
    else:
        return
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost") or _is_own(host):
        return
    with open(os.environ["OFFLINE_NOTES"], "a") as notes:
        notes.write(f"{event} {host}\n")
    raise OSError(f"offline: {event} {host}")


def _is_own(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


sys.addaudithook(_refuse)
