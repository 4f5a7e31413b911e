"""Whatever the OpenAPI page allows to be asked is answered as the page says, never by a 500.

`FUZZ_REQUESTS` sets the number of requests a route; docs/results/reliability.md has a long run.
"""

import os
import sys
from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings, strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.app.in_process import brought_up, client_of

TOKEN = "a-token-of-the-lead"
REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "20"))
SCAN = {"image": "sub-01_T1w"}
READER = {"client_id": "anna"}
KNOWN = [{}, SCAN, READER, SCAN | READER, SCAN | READER | {"reason": "not readable"}]
"""Put into some requests: of made-up scans and readers little is told."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
SETTINGS = settings(
    max_examples=REQUESTS, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Our part of the OpenAPI page, of a study with a few scans."""
    with pytest.MonkeyPatch.context() as patch:
        client = client_of(brought_up(tmp_path_factory.mktemp("fuzzed")), patch, lead_token=TOKEN)
        schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
        yield schema.include(path_regex="^/(reader|fairness/api)/")


@pytest.mark.parametrize("headers", [{}, {"Authorization": f"Bearer {TOKEN}"}], ids=["", "lead"])
def test_every_route_answers_as_documented(page, headers, capsys):
    answers = Counter()
    for found in page.get_all_operations():
        operation = found.ok()

        @seed(20261125)
        @SETTINGS
        @given(case=operation.as_strategy(), known=st.sampled_from(KNOWN))
        def ask(case, known):
            for part in (case.query, case.body):
                if isinstance(part, dict):
                    part.update(known)
            reply = case.call_and_validate(headers=headers, checks=CHECKS)
            answers[reply.status_code // 100] += 1

        ask()
    with capsys.disabled():
        sys.stdout.write(f" {answers.total()} requests: {dict(answers)} ")
    assert answers[2]
    assert answers[4]
