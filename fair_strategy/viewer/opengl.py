"""Whether this machine can render: asked in a process of its own, since a missing library kills."""

import os
import subprocess
import sys

PACKAGES = "libegl1 libgl1-mesa-dri"
PROBE_S = 60.0

# An empty variable breaks window creation; the pixel is read back because a window without a
# driver draws nothing and says nothing.
_PROBE = """
from vtkmodules.vtkRenderingCore import vtkRenderer, vtkRenderWindow, vtkWindowToImageFilter
import vtkmodules.vtkRenderingOpenGL2
window = vtkRenderWindow()
window.ShowWindowOff()
window.SetOffScreenRendering(1)
window.SetSize(8, 8)
renderer = vtkRenderer()
renderer.SetBackground(1.0, 0.0, 0.0)
window.AddRenderer(renderer)
window.Render()
picture = vtkWindowToImageFilter()
picture.SetInput(window)
picture.ReadFrontBufferOff()
picture.Update()
pixel = [picture.GetOutput().GetScalarComponentAsDouble(4, 4, 0, c) for c in range(3)]
assert pixel == [255.0, 0.0, 0.0], f"a red window came out as {pixel}"
"""


class RenderingError(RuntimeError):
    """Nothing can be drawn here; the sentence says what to install."""


def rendering_environment() -> dict[str, str]:
    """The environment for a process that renders: an empty VTK variable is left out."""
    name = "VTK_DEFAULT_OPENGL_WINDOW"
    return {key: value for key, value in os.environ.items() if key != name or value}


def check_rendering(*, python: str = sys.executable) -> None:
    """Draw one off-screen picture in a subprocess.

    Raises:
        RenderingError: the extra `viewer` or an OpenGL library is missing, or nothing was drawn.
    """
    try:
        done = subprocess.run(
            [python, "-c", _PROBE],
            env=rendering_environment(),
            capture_output=True,
            text=True,
            timeout=PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RenderingError(_sentence(f"no picture within {PROBE_S:g} s")) from error
    if done.returncode == 0:
        return
    if "ModuleNotFoundError" in done.stderr:
        raise RenderingError("the review page needs the extra: pip install 'fair-strategy[viewer]'")
    raise RenderingError(_sentence(_reason(done)))


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"the test picture ended by signal {-done.returncode}"
    last = done.stderr.strip().splitlines()
    return last[-1] if last else f"the test picture ended with code {done.returncode}"


def _sentence(reason: str) -> str:
    return (
        f"this machine cannot draw with OpenGL ({reason}); on Debian or Ubuntu install "
        f"{PACKAGES} (apt-get install --no-install-recommends {PACKAGES})"
    )
