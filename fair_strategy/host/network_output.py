"""Class probabilities of any MONAI Label segmentation task, taken before its post transforms."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monailabel.tasks.infer.basic_infer import BasicInferTask, CallBackTypes
from numpy.typing import NDArray

from fair_strategy.acquisition.entropy import predictive_entropy
from fair_strategy.learning.prediction import Prediction

Activation = Literal["softmax", "sigmoid", "none"]
ACTIVATIONS = ("softmax", "sigmoid", "none")


class _Reached(Exception):
    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data


def predict_with(task: BasicInferTask, image: Path, *, activation: Activation) -> Prediction:
    """Run a task's own pre transforms, network and inferer on a scan, and stop there.

    The grid is the network's (after the pre transforms): good for entropies and volumes, not for
    a mask on the scan. The post transforms, which usually end in an argmax, are not run.

    Args:
        activation: what turns the network's output into probabilities; "none" if they are.
    Raises:
        ValueError: if the output has not the axes (C, I, J, K), or is no probability.
    """
    data = _network_output(task, image)
    output = torch.as_tensor(data[task.output_label_key]).detach().to("cpu", torch.float32)
    if output.ndim != 4:
        raise ValueError(
            f"{image.name}: expected a network output (C, I, J, K), got shape {tuple(output.shape)}"
        )
    probs = probabilities(output.numpy(), activation=activation)
    shape = probs.shape[1:]
    return Prediction(
        shape=(shape[0], shape[1], shape[2]),
        affine=_affine(data[task.input_key]),
        box=(slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])),
        probability=1.0 - probs[0],
        entropy=predictive_entropy(probs[None]).astype(np.float32),
        mutual_information=None,
        route="sliding",
        trust=1.0,
        head_centre_mm=None,
    )


def probabilities(output: NDArray[np.float32], *, activation: Activation) -> NDArray[np.float32]:
    """Class probabilities (C, I, J, K), background at 0, from a network's output.

    Sigmoid channels are structures that may overlap: the background is what none of them claims,
    1 - max_c p_c, and the foreground what the surest claims. A single channel of probabilities is
    a foreground.

    Raises:
        ValueError: for a single channel under softmax, which is 1 everywhere.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(output))
    if activation == "softmax":
        if len(tensor) < 2:
            raise ValueError(
                "activation 'softmax': expected at least two channels, the background first, "
                "got 1; a single channel wants 'sigmoid'"
            )
        return torch.softmax(tensor, dim=0).numpy()
    if activation == "sigmoid":
        foreground = torch.sigmoid(tensor).amax(dim=0)
    elif len(tensor) > 1:
        return output
    else:
        foreground = tensor[0]
    return torch.stack([1.0 - foreground, foreground]).numpy()


def _network_output(task: BasicInferTask, image: Path) -> Mapping[str, Any]:
    def stop(data: Mapping[str, Any]) -> Mapping[str, Any]:
        raise _Reached(data)

    try:
        task({"image": str(image)}, callbacks={CallBackTypes.INFERER: stop})
    except _Reached as reached:
        return reached.data
    raise ValueError(f"{type(task).__name__}: its __call__ does not honour the INFERER callback")


def _affine(image: Any) -> NDArray[np.float64]:
    # Without MONAI's meta data the voxel size is unknown: margins then count voxels.
    affine = getattr(image, "affine", None)
    return np.eye(4) if affine is None else np.asarray(affine, dtype=np.float64)
