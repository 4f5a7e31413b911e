"""What Slicer's tools leave behind when a case is left: some hold all of it, scan and mask."""

from trame_slicer.core import SegmentationEditor
from trame_slicer.segmentation import SegmentationEffectPipeline


def pipelines(editor: SegmentationEditor) -> list[SegmentationEffectPipeline]:
    """What draws the tools of the case that is open; asked before the scene is cleared."""
    effects = editor._effects.values()  # get_effect would make what is asked for
    found = [held() for effect in effects for held in effect.pipelines]
    return [pipeline for pipeline in found if pipeline is not None]


def empty(left: list[SegmentationEffectPipeline]) -> None:
    """Take out of them what they hold, once the scene is cleared.

    Their effects have forgotten them, but each holds itself by its table of handlers, and the
    layer manager of trame-slicer 2.0 keeps it; so it stays, without a widget, as a brush is before
    it is used first, and answers that it takes no event.
    """
    for pipeline in left:
        pipeline.SetView(None)  # takes it off the view's list of those it tells
        held = vars(pipeline)
        for name, value in held.items():
            held[name] = {} if isinstance(value, dict) else None
