"""What the host needs, and needs not, to be imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fair_strategy.host import worker
from fair_strategy.workflows.scoring import score_study

ROOT = Path(__file__).resolve().parents[2]

BLOCKED = """
import sys, warnings
warnings.simplefilter("ignore")
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(f"blocked: {{name}}")
sys.meta_path.insert(0, Block())
"""


def run(code: str, *blocked: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(blocked=set(blocked)) + code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_every_module_of_ours_imports_with_torchvision_blocked():
    code = """
import importlib, pkgutil, fair_strategy
for module in pkgutil.walk_packages(fair_strategy.__path__, "fair_strategy."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        print(module.name)
"""
    imported = run(code, "torchvision").split()
    assert "fair_strategy.host.app" in imported
    assert "fair_strategy.host.routes.reader" in imported


@pytest.mark.parametrize(
    ("verb", "done"), [("compare", {"compared": 2, "settled": 0}), ("plan", {"plans": 2})]
)
def test_a_worker_that_asks_no_network_does_not_load_what_networks_need(study, verb, done):
    # To load it takes some six seconds of a core, after each submission.
    score_study(study)
    arguments = worker.arguments_for(study, verb)
    code = f"from fair_strategy.host import worker; worker.main({arguments!r})"
    assert json.loads(run(code, "torch", "monai").splitlines()[-1]) == done


AUTHENTICATION = """
import os
os.environ["MONAI_LABEL_AUTH_ENABLE"] = {enabled!r}
from fastapi import FastAPI
from fastapi.testclient import TestClient
from fair_strategy.host.clients import MAY_ADMINISTER
app = FastAPI()
@app.get("/")
def whoever(user=MAY_ADMINISTER):
    return user.username
sent = TestClient(app).get("/", params={{"username": "mallory"}})
print(sent.status_code, sent.json())
"""


@pytest.mark.parametrize(("enabled", "told"), [("true", "401"), ("false", "200 admin")])
def test_without_a_proxy_monai_labels_own_authentication_decides(enabled, told):
    assert run(AUTHENTICATION.format(enabled=enabled)).strip().startswith(told)


@pytest.mark.parametrize("module", ["worker", "background", "watcher", "versions"])
def test_what_needs_no_monai_label_does_not_import_it(module):
    run(f"import fair_strategy.host.{module}", "monailabel")
