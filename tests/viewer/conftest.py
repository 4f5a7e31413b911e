"""What the tests of the review page share; each is skipped, with a reason, where it cannot run."""

import asyncio
import functools
import importlib.util
import shutil
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from tests.app import serving
from tests.viewer.study import STUDY, Reader, ReviewServer, chromium, foreign, review_page

SHAPE = (40, 36, 30)
SPACING_MM = (1.0, 1.25, 1.5)


def rotation() -> np.ndarray:
    """A rotation by 20 and 12 degrees: an oblique scan."""
    a, b = np.radians(20), np.radians(12)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return about_z @ about_x


def affine(axes: str, *, oblique: bool = False) -> np.ndarray:
    """Voxel to RAS mm for a grid with these axes, such as `LAS`."""
    matrix = np.zeros((3, 3))
    for column, letter in enumerate(axes):
        row = next(n for n, pair in enumerate(("RL", "AP", "SI")) if letter in pair)
        matrix[row, column] = SPACING_MM[column] * (1 if letter in "RAS" else -1)
    made = np.eye(4)
    made[:3, :3] = rotation() @ matrix if oblique else matrix
    made[:3, 3] = (-12.5, 8.25, 3.0)
    return made


@functools.cache
def why_not_here() -> str:
    """Why Slicer's core cannot be used here; empty if it can."""
    if importlib.util.find_spec("trame_slicer") is None:
        return "the extra 'viewer' (trame-slicer) is not installed"
    from fair_strategy.viewer.opengl import RenderingError, check_rendering

    try:
        check_rendering()
    except RenderingError as error:
        return str(error)
    return ""


@pytest.fixture(scope="session")
def slicer() -> None:
    """Skips where Slicer's core cannot be imported or cannot draw."""
    if reason := why_not_here():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def one_scene(slicer: None) -> Iterator[object]:
    """Slicer's core with three slice views, once: it holds things that a process has once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # third parties, while they are imported
        from trame_slicer.views import DirectViewFactory, ViewLayoutDefinition
        from trame_slicer.views.render_scheduler import NoScheduleRendering

        from fair_strategy.viewer.scene import ReviewScene
    scene = ReviewScene()
    manager = scene.app.view_manager
    manager.register_factory(DirectViewFactory(do_render_offscreen=True))
    for definition in (
        ViewLayoutDefinition.axial_view(),
        ViewLayoutDefinition.coronal_view(),
        ViewLayoutDefinition.sagittal_view(),
    ):
        view = manager.create_view(definition)
        view.set_scheduled_render(NoScheduleRendering())
        view.update_size(200, 200)
    yield scene
    scene.clear()
    scene.app.io_manager.cache_dir.cleanup()  # left to the end, it warns, and a warning is an error


@pytest.fixture
def scene(one_scene):
    """An empty scene, with an event loop: the threshold tool blinks by a task of its own."""
    with asyncio.Runner() as runner:
        runner.get_loop()
        one_scene.clear()
        yield one_scene
        one_scene.clear()


@pytest.fixture
def write(tmp_path: Path):
    """Writes an array as a file of this test."""
    from fair_strategy.data.volumes import write_image

    def written(name: str, array: np.ndarray, matrix: np.ndarray) -> Path:
        dtype = np.uint8 if array.dtype.kind in "bu" else np.float32
        write_image(tmp_path / name, array, matrix, dtype=dtype)
        return tmp_path / name

    return written


def scan(rng: np.random.Generator) -> np.ndarray:
    """Noise, brighter towards the end of each axis: no two orientations look alike."""
    ramp = sum(np.meshgrid(*(np.linspace(0, 1, n) for n in SHAPE), indexing="ij"))
    return (100 * ramp + rng.normal(0, 2, SHAPE)).astype(np.float32)


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    """A ball of voxels."""
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"))
    return ((grid - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(axis=0) <= radius**2


# ---------------------------------------------------------------- the page in a browser


@pytest.fixture(scope="session")
def server(slicer: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[serving.Server]:
    """A server of the sample cohort and the shipped model, whose scans are all predicted."""
    root = tmp_path_factory.mktemp("study")
    shutil.copytree(serving.ROOT / "sample-data" / "cohort", root / "studies")
    serving.application(root)
    shipped = serving.ROOT / "apps" / "fair_caudate" / "model" / "pretrained.pt"
    shutil.copy(shipped, root / "app" / "model" / "pretrained.pt")
    port = serving.free_port()
    process = serving.launch(root, *STUDY, port=port)
    running = serving.Server(process, f"http://127.0.0.1:{port}", root)

    def scored() -> bool:
        assert process.poll() is None, running.log[-3000:]
        stats = running.client("probe").info()["datastore"]
        return stats["label_tags"].get("original") == stats["total"]

    try:
        serving.wait_for(scored, what="scoring in the background")
        serving.wait_for(lambda: "score done" in running.log, what="end of the scoring run")
        yield running
    finally:
        running.process.send_signal(signal.SIGINT)  # one of the tests starts another
        ended = running.process.wait(timeout=60)
    assert ended == 0, running.log[-3000:]


@pytest.fixture(scope="session")
def review(
    server: serving.Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReviewServer]:
    with review_page(
        tmp_path_factory.mktemp("review"), server.url, "--readers", "4", "--keep-seconds", "20"
    ) as running:
        yield running


# Not for the session: while it is there, no other test can run an event loop of its own.
@pytest.fixture(scope="module")
def browser(slicer: None) -> Iterator[object]:
    path = chromium()
    if path is None:
        pytest.skip("there is no Chromium here (Debian: chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        chrome = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chrome
        chrome.close()


def give_back(server: serving.Server, names: set[str]) -> None:
    """What these readers still hold: the cohort has sixteen scans for all tests together."""
    for name in names:
        held = requests.get(
            f"{server.url}/reader/current", params={"client_id": name}, timeout=60
        ).json()["image"]
        if held is not None:
            body = {"image": held, "client_id": name, "reason": "another time"}
            requests.post(f"{server.url}/reader/skip", json=body, timeout=60).raise_for_status()


@pytest.fixture
def new_reader(browser, server, review):
    """Opens the page in a browser of its own, logged in under a name; gives its scan back."""
    contexts, readers, names = [], [], set()

    def entered(name: str, *, viewport: tuple[int, int] = (1200, 760)) -> Reader:
        width, height = viewport
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        reader = Reader(context.new_page())
        readers.append(reader)
        names.add(name)
        reader.enter(review.url, name)
        return reader

    yield entered
    for context in contexts:
        context.close()
    give_back(server, names)
    for reader in readers:
        assert reader.errors == []
        assert foreign(reader.requests, review.url) == []
