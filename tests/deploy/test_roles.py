"""Every route that the running server documents, asked by nobody, reader, lead and admin."""

import gzip
import io
import json
import socket
import time
import uuid
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import nibabel as nib
import numpy as np
import pytest

from fair_strategy.data.formats import encode
from tests.app import cohorts
from tests.deploy.conftest import MARKERS, ROLES

CASE = "sub-02_T1w"
READER = "reader"
CLOSED = "closed"
ORDER = ("reader", "lead", "admin", CLOSED)

# The lowest role that is let through; `closed` is nobody's until the operator switches it on.
# A route that is not here fails the test: somebody decides who may use it, here and in `access`.
EXPECTED = {
    "reader": """
        GET /info/, POST /activelearning/{strategy}, POST /infer/{model}, GET /datastore/,
        GET /datastore/image, HEAD /datastore/image, GET /datastore/image/info,
        GET /datastore/label, HEAD /datastore/label, PUT /datastore/label,
        GET /datastore/label/info, GET /train/, GET /scoring/, PUT /session/,
        GET /session/{session_id}, DELETE /session/{session_id}, GET /reader/current,
        GET /reader/draft, PUT /reader/draft, DELETE /reader/draft, GET /reader/draft/info,
        GET /reader/entropy, POST /reader/exclude, GET /reader/label, GET /reader/lease,
        GET /reader/options,
        GET /reader/peaks, GET /reader/progress, POST /reader/renew, POST /reader/reopen,
        POST /reader/reveal, POST /reader/skip, GET /reader/why""",
    "lead": """
        GET /batch/infer, PUT /datastore/image, PUT /datastore/image/info,
        PUT /datastore/label/info, GET /fairness/, GET /fairness/api/agreement,
        GET /fairness/api/decisions,
        GET /fairness/api/decisions/{decision_id},
        POST /fairness/api/decisions/{decision_id}/replay,
        GET /fairness/api/leases, GET /fairness/api/performance, POST /fairness/api/reopen,
        GET /fairness/api/summary, GET /fairness/api/training, GET /fairness/api/weights,
        GET /fairness/api/work, GET /fairness/audit, GET /model/info/{model}, GET /model/{model},
        POST /scoring/{method}, DELETE /scoring/, POST /train/{model}, DELETE /train/""",
    "admin": """
        DELETE /batch/infer, POST /batch/infer/{model}, GET /datastore/dataset,
        DELETE /datastore/label, POST /infer/wsi_v2/{model}""",
    CLOSED: """
        DELETE /datastore/image, GET /logs/, GET /logs/gpu, PUT /model/{model},
        DELETE /model/{model}""",
}
LEAST = {route.strip(): role for role, text in EXPECTED.items() for route in text.split(",")}
HEAVY = frozenset({"POST /batch/infer/{model}"})
"""Start a process when let through: only their refusals are asked for."""
IN_PATH = {"strategy": "weighted_entropy", "decision_id": "1"}
READS = """
    GET /info/, GET /datastore/, GET /datastore/image, HEAD /datastore/image,
    GET /datastore/image/info, GET /datastore/label, HEAD /datastore/label,
    GET /datastore/label/info, GET /train/, GET /scoring/, GET /session/{session_id},
    GET /reader/current, GET /reader/draft, GET /reader/draft/info, GET /reader/entropy,
    GET /reader/label, GET /reader/lease, GET /reader/options, GET /reader/peaks,
    GET /reader/progress, GET /reader/why, POST /infer/{model}, POST /activelearning/{strategy}"""
"""What a reader may read; the last one gives away what is held, so that it comes last."""
NOT_BEGUN = {"GET /train/", "GET /scoring/"}
"""404: nobody has started any."""
VARIANTS = [
    ("GET /datastore/", {"output": "train"}),
    ("GET /datastore/label", {"tag": "original"}),
    ("GET /datastore/label", {"tag": "uncertainty"}),
    ("GET /reader/entropy", {"extension": ".nrrd"}),
    ("POST /infer/{model}", {"output": "all"}),
    ("POST /infer/{model}", {"output": "image"}),
]
FIGURES = ("summary", "work")
"""By group, on the dashboard; the others have to be measured first."""
GZIP = b"\x1f\x8b\x08"


def routes_of(guarded):
    schema = guarded.send("anna", "GET", "/openapi.json").json()
    return {
        f"{method.upper()} {path}": described
        for path, found in schema["paths"].items()
        for method, described in found.items()
    }


def multipart(fields, files):
    """A form with files: (content type, body)."""
    edge = uuid.uuid4().hex
    body = io.BytesIO()
    for name, text in fields.items():
        body.write(f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode())
        body.write(f"{text}\r\n".encode())
    for name, (file, content) in files.items():
        body.write(f'--{edge}\r\nContent-Disposition: form-data; name="{name}"; '.encode())
        body.write(f'filename="{file}"\r\n\r\n'.encode() + content + b"\r\n")
    body.write(f"--{edge}--\r\n".encode())
    return f"multipart/form-data; boundary={edge}", body.getvalue()


def draft():
    """A mask that nobody else would draw."""
    array = np.zeros(cohorts.SHAPE, np.uint8)
    array[1:4, 2:3, 5:9] = 1
    return array


def mask(array):
    return nib.Nifti1Image(array, cohorts.AFFINE).to_bytes()


def ask(guarded, user, route, *, victim="bert", image=CASE, session_id="ab12", **more):
    """A request that fits the route, in which the client claims to be somebody else."""
    method, path = route.replace("{session_id}", session_id).split()
    for name, value in IN_PATH.items():
        path = path.replace(f"{{{name}}}", value)
    path = path.replace("{model}", "caudate" if method != "POST" or "infer" in path else "nothing")
    path = path.replace("{method}", "nothing")
    query = dict.fromkeys(("image", "label", "id"), image)
    query |= {"tag": "final", "client_id": victim, "output": "all"}
    if path.startswith("/infer"):
        query["output"] = "json"
    if path.startswith("/session"):
        del query["image"]  # there it is a switch
    query |= more
    sends_file = route in ("PUT /datastore/label", "PUT /reader/draft", "PUT /session/") or (
        method in ("PUT", "POST") and path.startswith(("/infer", "/model", "/datastore/image"))
        and "info" not in path
    )  # fmt: skip
    body, headers = None, {}
    if sends_file:
        name = {"/datastore/label": "label", "/session/": "files"}.get(path, "file")
        files = {} if path.startswith("/infer") else {name: ("a.nii", mask(draft() * 0))}
        kind, body = multipart({"params": json.dumps({"client_id": victim})}, files)
        headers = {"Content-Type": kind}
    elif method == "PUT":
        body = urlencode({"info": "{}"}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
    elif method == "POST":
        fields = {"client_id": victim}
        fields |= {"image": image} if "/reader/" in path or "reopen" in path else {}
        fields |= {"reason": "another time"} if path.endswith(("skip", "exclude")) else {}
        body, headers = json.dumps(fields).encode(), {"Content-Type": "application/json"}
    return guarded.send(user, method, f"{path}?{urlencode(query)}", body=body, headers=headers)


def put_draft(guarded, user, case_id, array):
    kind, body = multipart({}, {"file": ("mask.nii", mask(array))})
    return guarded.send(
        user, "PUT", f"/reader/draft?image={case_id}", body=body, headers={"Content-Type": kind}
    )


def put_label(guarded, user, case_id, array):
    kind, body = multipart({"params": "{}"}, {"label": ("mask.nii", mask(array))})
    path = f"/datastore/label?image={case_id}"
    return guarded.send(user, "PUT", path, body=body, headers={"Content-Type": kind})


def unpacked(body):
    """A reply as sent, and what is packed in it: gzip anywhere (NRRD, forms), members of a zip."""
    found, at = [body], body.find(GZIP)
    while at >= 0:
        with suppress(zlib.error):  # three bytes that are there by chance
            found.append(zlib.decompressobj(wbits=31).decompress(body[at:]))
        at = body.find(GZIP, at + 1)
    if zipfile.is_zipfile(io.BytesIO(body)):
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            for name in archive.namelist():
                found += [name.encode(), *unpacked(archive.read(name))]
    return found


def holds(body, secret):
    return any(secret in text for text in unpacked(body))


@dataclass(frozen=True)
class Held:
    """A scan that anna has submitted, re-opened and begun anew, and a session that she has.

    Its first draft was bert's, who has submitted nothing.
    """

    case_id: str
    session_id: str


@pytest.fixture(scope="module")
def held(guarded) -> Held:
    case_id = ask(guarded, "anna", "POST /activelearning/{strategy}").json()["id"]
    mine = cohorts.scan(int(case_id[4:6]))[1]
    assert put_draft(guarded, "bert", case_id, draft()).status == 200
    assert put_label(guarded, "anna", case_id, mine).status == 200
    assert ask(guarded, "anna", "POST /reader/reopen", image=case_id).status == 200
    assert put_draft(guarded, "anna", case_id, mine).status == 200
    made = ask(guarded, "anna", "PUT /session/")
    assert made.status == 200, made.body
    return Held(case_id, made.json()["session_id"])


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.seg.nrrd"])
def test_a_draft_and_a_marked_value_would_be_found_in_every_packing(name):
    volume = encode(Path(name), draft(), cohorts.AFFINE)
    table = gzip.compress(b"sex\n" + MARKERS[0])
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, volume)
        file.writestr("table.gz", table)
    form = multipart({}, {"image": (name, volume), "table": ("table.gz", table)})[1]
    for body in (archive.getvalue(), form):
        assert holds(body, draft().tobytes(order="F"))
        assert holds(body, MARKERS[0])
        assert not holds(body, MARKERS[1])
    assert holds(volume, draft().tobytes(order="F"))


def test_every_documented_route_has_a_decision(guarded):
    assert set(routes_of(guarded)) == set(LEAST)


def test_nobody_is_answered_by_any_route(guarded):
    for route in LEAST:
        assert ask(guarded, None, route).status == 401, route


def test_somebody_without_a_role_is_answered_by_no_route(guarded):
    for route in LEAST:
        assert ask(guarded, "otto", route).status == 403, route


def hides(body):
    """Whether a reply holds no sensitive value, and nothing of bert's draft."""
    return not any(holds(body, secret) for secret in (*MARKERS, draft().tobytes(order="F")))


def reads(route):
    """Whether a route gives a reader something to look at; the others change something."""
    return route.startswith(("GET", "HEAD", "POST /infer", "POST /activelearning"))


def test_every_route_that_reads_answers_a_reader_and_hides_what_is_not_theirs(guarded, held):
    routes = [route.strip() for route in READS.split(",")]
    assert set(routes) == {r for r, least in LEAST.items() if least == READER and reads(r)}
    for route, more in [*VARIANTS, *((route, {}) for route in routes)]:
        sent = {"image": held.case_id, "session_id": held.session_id, **more}
        reply = ask(guarded, "anna", route, **sent)
        expected = 404 if route in NOT_BEGUN else 200
        assert reply.status == expected, (route, more, reply.body[:300])
        assert reply.body or route.startswith("HEAD"), (route, more)
        assert hides(reply.body), (route, more)


def test_the_lead_reads_who_holds_what_and_a_reader_does_not(guarded, held):
    for figure in ("leases", "decisions"):
        told = guarded.send("clara", "GET", f"/fairness/api/{figure}")
        assert told.status == 200
        assert b"anna" in told.body
        assert guarded.send("bert", "GET", f"/fairness/api/{figure}").status == 403


def test_what_was_read_was_the_readers_own(guarded, held):
    """So that the walk above and the one below look for something that is there."""
    submitted = cohorts.scan(int(held.case_id[4:6]))[1]
    for user, array in (("anna", submitted), ("bert", draft())):
        mine = guarded.send(user, "GET", f"/reader/draft?image={held.case_id}")
        assert mine.status == 200
        assert holds(mine.body, array.tobytes(order="F"))
    assert guarded.send("bert", "GET", f"/reader/label?image={held.case_id}").status == 404


def test_no_reply_to_a_reader_holds_a_sensitive_value_or_a_colleagues_draft(guarded, held):
    for route, least in LEAST.items():
        reply = ask(guarded, "anna", route, image=held.case_id)
        if least == READER:
            assert reply.status not in (401, 403), (route, reply.body[:300])
            assert reply.status < 500, (route, reply.body[:300])
        else:
            assert reply.status == 403, (route, reply.status)
        assert hides(reply.body), route
    mine = guarded.send("bert", "GET", f"/reader/draft?image={held.case_id}")
    assert holds(mine.body, draft().tobytes(order="F"))  # still his


@pytest.mark.parametrize("user", ["clara", "dora"])
def test_lead_and_admin_are_let_through_where_their_role_allows_it(guarded, user):
    rank = ORDER.index(ROLES[user])
    for route, least in LEAST.items():
        if ORDER.index(least) > rank:
            assert ask(guarded, user, route).status == 403, route
        elif route not in HEAVY:
            reply = ask(guarded, user, route)
            assert reply.status not in (401, 403), (route, reply.body[:300])


@pytest.mark.parametrize("user", ["clara", "dora"])
@pytest.mark.parametrize("figure", FIGURES)
def test_the_lead_reads_the_figures_by_group_and_a_reader_does_not(guarded, user, figure):
    told = guarded.send(user, "GET", f"/fairness/api/{figure}")
    assert told.status == 200
    assert b"ZQSENSITIVEGROUP" in told.body  # the walk of a reader looked for what is there
    refused = guarded.send("anna", "GET", f"/fairness/api/{figure}")
    assert refused.status == 403
    assert hides(refused.body)


def test_a_client_that_claims_to_be_a_colleague_acts_under_its_own_name(guarded):
    ask(guarded, "anna", "POST /activelearning/{strategy}", victim="bert")
    held = guarded.send("clara", "GET", "/fairness/api/leases").json()
    holders = json.dumps(held)
    assert "anna" in holders
    assert "bert" not in holders


def test_a_label_is_stored_under_the_name_of_who_sent_it(guarded):
    kind, body = multipart(
        {"params": json.dumps({"client_id": "bert"})},
        {"label": ("mask.nii", mask(cohorts.scan(4)[1]))},
    )
    reply = guarded.send(
        "anna", "PUT", "/datastore/label?image=sub-04_T1w", body=body,
        headers={"Content-Type": kind},
    )  # fmt: skip
    assert reply.status == 200, reply.body
    info = guarded.send("anna", "GET", "/datastore/label/info?label=sub-04_T1w&tag=final").json()
    assert info["client_id"] == "anna"


def test_the_scans_are_all_there_after_everything_that_was_asked(guarded):
    scans = sorted((guarded.running.root / "studies").glob("sub-*/anat/*_T1w.nii.gz"))
    assert len(scans) == 8
    for user in ("anna", "clara", "dora"):
        assert guarded.send(user, "DELETE", f"/datastore/image?id={CASE}").status == 403
    assert sorted((guarded.running.root / "studies").glob("sub-*/anat/*_T1w.nii.gz")) == scans


# ------------------------------------------------------------------ names, sizes, archives

LEAVING = ["..%2F..%2Fetc%2Fpasswd", "%2e%2e%2fx", "%2Fetc%2Fpasswd", "..%5C..%5Cx", "a%00b", ".x"]


@pytest.mark.parametrize("name", LEAVING)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/datastore/image?image="), ("GET", "/datastore/label?tag=final&label="),
     ("GET", "/datastore/label?label=sub-02_T1w&tag="), ("DELETE", "/datastore/label?tag=x&id="),
     ("GET", "/reader/why?image="), ("GET", "/session/"), ("DELETE", "/session/"),
     ("GET", "/model/"), ("GET", "/model/info/"), ("POST", "/infer/"),
     ("POST", "/activelearning/"), ("GET", "/static/")],
)  # fmt: skip
def test_a_name_that_leaves_the_folder_reads_and_removes_nothing(guarded, method, path, name):
    reply = guarded.send("dora", method, path + name)
    assert reply.status in (403, 404, 405, 422), reply.body[:300]
    assert b"root:" not in reply.body


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "..\\x", "a\x00b"])
def test_names_in_json_and_in_forms_are_checked_as_those_in_queries(guarded, name):
    asked = json.dumps({"image": name, "client_id": "anna", "reason": "another time"}).encode()
    for path in ("renew", "reveal", "skip", "exclude", "reopen"):
        reply = guarded.send(
            "anna", "POST", f"/reader/{path}", body=asked,
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
        assert reply.status == 422, (path, reply.body)
    kind, body = multipart({"params": json.dumps({"image": name})}, {})
    sent = {"body": body, "headers": {"Content-Type": kind}}
    assert guarded.send("anna", "POST", "/infer/caudate", **sent).status == 422


def test_a_session_unpacks_no_archive_and_takes_one_volume_under_a_random_id(guarded):
    kind, body = multipart({}, {"files": ("a.nii", mask(draft()))})
    sent = {"body": body, "headers": {"Content-Type": kind}}
    assert guarded.send("anna", "PUT", "/session/?uncompress=true", **sent).status == 422
    made = guarded.send("anna", "PUT", "/session/", **sent)
    assert made.status == 200, made.body
    assert len(made.json()["session_id"]) == 32
    kind, body = multipart({}, {"files": ("../../x.tar", b"x")})
    reply = guarded.send("anna", "PUT", "/session/", body=body, headers={"Content-Type": kind})
    assert reply.status == 422


def test_a_body_beyond_its_limit_is_refused_by_the_length_that_is_told(guarded):
    kind = "multipart/form-data; boundary=x"
    headers = {"Content-Type": kind, "Content-Length": str(5 * 2**20)}
    # Nothing of the body needs to be sent for it.
    reply = guarded.send("anna", "PUT", "/reader/draft?image=x", body=b"-", headers=headers)
    assert reply.status == 413
    assert "max_upload_mb" in reply.json()["detail"]


def test_a_body_whose_length_is_not_told_ends_at_its_limit(guarded):
    at = urlsplit(guarded.running.url)
    line = socket.create_connection((at.hostname, at.port), 60)
    head = ["PUT /reader/draft?image=x HTTP/1.1", f"Host: {at.netloc}", "Connection: close"]
    head += ["Content-Type: multipart/form-data; boundary=x", "Transfer-Encoding: chunked"]
    head += [f"X-Fair-Proxy-Secret: {guarded.secret}", "X-Fair-User: anna", "X-Fair-Role: reader"]
    start = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.nii"\r\n\r\n'
    allowed = start + bytes(4 * 2**20 - len(start))
    with line:
        line.sendall("\r\n".join([*head, "", ""]).encode())
        line.sendall(f"{len(allowed):x}\r\n".encode() + allowed + b"\r\n")
        time.sleep(1.0)  # all of that is read: what is unread at the end would reset the line
        line.sendall(b"1\r\nx")
        answer = line.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 413"), answer[:200]
    assert b"max_upload_mb" in answer
    assert guarded.send("anna", "GET", "/info/").status == 200


def test_a_page_of_another_site_gets_neither_answer_nor_leave_to_ask(guarded):
    for method in ("GET", "OPTIONS"):
        reply = guarded.send(
            "anna", method, "/info/",
            headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"},
        )  # fmt: skip
        assert reply.status == 403
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]


def test_the_export_leaves_no_archive_behind(guarded):
    reply = guarded.send("dora", "GET", "/datastore/dataset")
    assert reply.status == 200
    assert reply.body[:2] == b"PK"
    assert any(name.startswith(b"label/") for name in unpacked(reply.body))
    assert hides(reply.body)


def test_the_log_names_no_user_no_secret_and_no_sensitive_value(guarded):
    log = guarded.running.log
    assert guarded.secret not in log
    for marker in MARKERS:
        assert marker.decode() not in log
    for name in ("anna", "bert", "clara", "dora"):
        assert name not in log
