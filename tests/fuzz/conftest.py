"""The study of the host's tests, for those here."""

from tests.app.conftest import study  # noqa: F401
