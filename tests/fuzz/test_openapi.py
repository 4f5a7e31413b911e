"""Whatever the OpenAPI page allows to be asked is answered as the page says, never by a 500.

`FUZZ_REQUESTS` sets the number of requests a route; docs/results/reliability.md has a long run.
"""

import os
import sys
from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings, strategies as st
from monailabel.utils.async_tasks import task
from monailabel.utils.sessions import Sessions
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from fair_strategy.host.routes import lead, lead_figures, logs, reader, review, transfer, work
from tests.app.in_process import brought_up, client_of

TOKEN = "a-token-of-the-lead"
BEGUN = {"id": "1", "status": "PENDING"}
"""What starts a training or a scoring is let through to where a process would begin."""
REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "20"))
SCAN = {"image": "sub-01_T1w"}
READER = {"client_id": "anna"}
NAMED = {"strategy": "weighted_entropy", "model": "caudate", "method": "group_performance"}
"""Put into some addresses: of made-up names little is told but that they are unknown."""
PARTS = (reader, review, work, transfer, lead, lead_figures, logs)
TRIED = {
    (method, route.path)
    for part in PARTS
    for route in part.router.routes
    if route.include_in_schema
    for method in route.methods
}
KNOWN = [{}, SCAN, READER, SCAN | READER, SCAN | READER | {"reason": "not readable"}]
KNOWN += [SCAN | {"output": "json"}]
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
    """Our part of the OpenAPI page, of a study with a few scans; everything is open."""
    root = tmp_path_factory.mktemp("fuzzed")
    opened = dict.fromkeys(("allow_export", "allow_logs", "allow_model_upload"), True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "log_file", lambda: root / "app.log")
        (root / "app.log").write_text("a line\n" * 500)
        app = brought_up(root)
        app._sessions = Sessions(str(root / "sessions"))
        for owner, work in ((app, "train"), (app, "scoring"), (task, "run_background_task")):
            patch.setattr(owner, work, lambda *_: dict(BEGUN))
        client = client_of(app, patch, lead_token=TOKEN, **opened)
        schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
        yield schema.include(func=_is_tried)


def _is_tried(context) -> bool:
    operation = context.operation
    return (operation.method.upper(), operation.path) in TRIED


@pytest.mark.parametrize("headers", [{}, {"Authorization": f"Bearer {TOKEN}"}], ids=["", "lead"])
def test_every_route_answers_as_documented(page, headers, capsys):
    answers, tried = Counter(), set()
    for found in page.get_all_operations():
        operation = found.ok()
        tried.add((operation.method.upper(), operation.path))

        @seed(20261125)
        @SETTINGS
        @given(case=operation.as_strategy(), known=st.sampled_from(KNOWN), named=st.booleans())
        def ask(case, known, named):
            for part in (case.query, case.body):
                if isinstance(part, dict):
                    part.update(known)
            if named:
                case.path_parameters.update(
                    {k: NAMED[k] for k in case.path_parameters if k in NAMED}
                )
            reply = case.call_and_validate(headers=headers, checks=CHECKS)
            answers[reply.status_code // 100] += 1

        ask()
    with capsys.disabled():
        sys.stdout.write(f" {len(tried)} routes, {answers.total()} requests: {dict(answers)} ")
    assert tried == TRIED
    assert answers[2]
    assert answers[4]
