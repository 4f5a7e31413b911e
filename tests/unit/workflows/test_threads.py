"""Who loads a model computes without the spinning threads of NumPy's linear algebra."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import json, sys
from pathlib import Path
from threadpoolctl import threadpool_info
from fair_strategy.workflows.models import model_file

def threads():
    return [p["num_threads"] for p in threadpool_info() if p["internal_api"] == "openblas"]

before = threads()
model_file(Path(sys.argv[1])).load()
print(json.dumps([before, threads()]))
"""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core: there is one thread anyway")
def test_a_loaded_model_keeps_numpy_to_one_thread():
    model = ROOT / "apps" / "fair_caudate" / "model" / "pretrained.pt"
    environment = {
        k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    } | {"OPENBLAS_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(model)],
        env=environment, capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    before, after = json.loads(said.splitlines()[-1])
    assert set(before) == {2}
    assert set(after) == {1}
