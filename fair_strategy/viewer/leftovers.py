"""What Slicer's brushes leave behind when a case is left: half a MiB each time."""

from trame_slicer.core import SegmentationEditor
from trame_slicer.segmentation.segmentation_paint_pipeline import SegmentationPaintPipeline


def brush_pipelines(editor: SegmentationEditor) -> list[SegmentationPaintPipeline]:
    """What draws the brushes of the case that is open; asked before the scene is cleared."""
    effects = editor._effects.values()  # get_effect would make what is asked for
    pipelines = [held() for effect in effects for held in effect.pipelines]
    return [found for found in pipelines if isinstance(found, SegmentationPaintPipeline)]


def empty(pipelines: list[SegmentationPaintPipeline]) -> None:
    """Take out of them what they hold, once the scene is cleared.

    Their effects have forgotten them, but each holds itself by its table of handlers, and the
    layer manager of trame-slicer 2.0 keeps it; so it stays, without a widget, as it is before it
    is used first, and answers that it takes no event.
    """
    for pipeline in pipelines:
        held = vars(pipeline)
        for name, value in held.items():
            held[name] = {} if isinstance(value, dict) else None
