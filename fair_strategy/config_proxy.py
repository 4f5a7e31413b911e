"""What a reverse proxy, the server and the review page agree on: three headers and a secret."""

import stat
from pathlib import Path

from fair_strategy.config import SettingsError

SECRET_HEADER, USER_HEADER, ROLE_HEADER = "X-Fair-Proxy-Secret", "X-Fair-User", "X-Fair-Role"
SHORTEST_SECRET = 24


def read_secret(file: Path) -> str:
    """The secret in a file, without blanks around it.

    Raises:
        SettingsError: if it cannot be read, is open to everybody on the machine, or is too short.
    """
    try:
        mode, text = file.stat().st_mode, file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"proxy_secret_file {file}: cannot be read ({error})") from None
    if mode & stat.S_IRWXO:
        raise SettingsError(
            f"proxy_secret_file {file}: everybody on this machine may open it; chmod o-rwx it"
        )
    if len(text) < SHORTEST_SECRET or not text.isprintable() or " " in text:
        raise SettingsError(
            f"proxy_secret_file {file}: expected at least {SHORTEST_SECRET} characters on one "
            "line; make one by: openssl rand -hex 32"
        )
    return text
