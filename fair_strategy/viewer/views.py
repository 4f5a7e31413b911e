"""The four views in the browser: three slices and the surface, with letters that stay right."""

from typing import Any

from trame.widgets import html, vuetify3 as vuetify
from trame_slicer.app.logic import connect_slice_view_slider_to_state
from trame_slicer.core import LayoutManager
from trame_slicer.rca_view import RemoteThreeDViewFactory, RemoteViewFactory
from trame_slicer.views import (
    Layout,
    LayoutDirection,
    SliceView,
    ViewLayoutDefinition,
    ViewType,
)

from fair_strategy.viewer.markup import attributes, tagged
from fair_strategy.viewer.scene import ReviewScene

SLICES = {"Red": "axial", "Green": "coronal", "Yellow": "sagittal"}
FOUR_UP = "four-up"
_UNUSED = "vtkMRMLModelSliceDisplayableManager"
"""Cuts surfaces with slices, which no scene here has; it draws every slice view whenever one moves,
and the one that was turned comes last."""
_FPS = {"target_fps": 30.0, "blur_fps": 10.0}  # of the view under the mouse, and of the others
_EVENT_PAUSE_S = 0.002
"""Between two events of the mouse; each waits for its answer already."""


class ReviewSliceView(SliceView):
    """A slice view that is drawn when something in it changes."""

    def _initialize_displayable_manager_group(
        self, factory_type: Any, app_logic: Any, manager_types: list[Any]
    ) -> None:
        used = [kind for kind in manager_types if getattr(kind, "__name__", kind) != _UNUSED]
        super()._initialize_displayable_manager_group(factory_type, app_logic, used)

    def _on_slice_logic_modified_event(self, *about: Any) -> None:
        super()._on_slice_logic_modified_event(*about)
        self.schedule_render()


def add_views(server: Any, scene: ReviewScene) -> LayoutManager:
    """Create the views; `initialize_layout_grid` of the answer puts them into a page."""
    manager = scene.app.view_manager
    how: dict[str, Any] = {**_FPS, "rca_event_throttle_s": _EVENT_PAUSE_S}
    manager.register_factory(
        RemoteViewFactory(
            server,
            ReviewSliceView,
            ViewType.SLICE_VIEW,
            populate_view_ui_f=_slice_overlay,
            **how,
        )
    )
    manager.register_factory(
        RemoteThreeDViewFactory(server, populate_view_ui_f=_surface_overlay, **how)
    )
    layouts = LayoutManager(scene.app.scene, manager, server)
    layouts.register_layout_dict({FOUR_UP: _four_up()})
    layouts.set_layout(FOUR_UP)
    for view in manager.get_threed_views():
        # The defaults, multi-sampling with depth peeling, draw nothing in software.
        view.render_window().SetMultiSamples(0)
        view.renderer().SetUseDepthPeeling(False)
    return layouts


def _four_up() -> Layout:
    surface = ViewLayoutDefinition.threed_view(background_color=("#101418", "#28303a"))
    top = [ViewLayoutDefinition.axial_view(), surface]
    bottom = [ViewLayoutDefinition.coronal_view(), ViewLayoutDefinition.sagittal_view()]
    rows: list[Any] = [Layout(LayoutDirection.Horizontal, row) for row in (top, bottom)]
    return Layout(LayoutDirection.Vertical, rows)


def _slice_overlay(server: Any, view_id: str, view: Any) -> None:
    tag = view.get_singleton_tag()
    if tag == next(iter(SLICES)):
        _colour_bar()
    for edge in ("left", "right", "top", "bottom"):
        html.Div(
            f"{{{{ edges.{tag}.{edge} }}}}",
            classes=f"fr-edge {edge}",
            raw_attrs=attributes(data_edge=f"{tag}-{edge}"),
        )
    html.Div(
        SLICES.get(tag, tag),
        classes=("['fr-name', active_view === '" + tag + "' ? 'active' : '']",),
    )
    slider = connect_slice_view_slider_to_state(server, view)
    with html.Div(classes="fr-slice"):
        vuetify.VSlider(
            v_model=(slider.name.value,),
            min=(slider.name.min_value,),
            max=(slider.name.max_value,),
            step=(slider.name.step,),
            hide_details=True,
            density="compact",
            track_size=2,
            thumb_size=12,
            color="grey-lighten-1",
            raw_attrs=attributes(aria_label=f"{SLICES.get(tag, tag)} slice"),
        )


def _colour_bar() -> None:
    """In one view only: four bars of one scale hide anatomy and say nothing more."""
    with html.Div(
        classes="fr-scale",
        v_if=("has_overlay && overlay_shown && !hidden",),
        raw_attrs=tagged("scale"),
    ):
        html.Span("entropy, nat", classes="fr-scale-title")
        with html.Div(classes="fr-scale-bar", style=("`background: ${overlay_colours}`",)):
            html.I(style=("`height: ${100 * overlay_threshold / overlay_highest}%`",))
        for share in (0.0, 0.5, 1.0):
            html.B(
                f"{{{{ ({share} * overlay_highest).toFixed(2) }}}}",
                style=f"bottom: calc({share} * var(--height) - 8px)",
            )


def _surface_overlay(_server: Any, _view_id: str, _view: Any) -> None:
    html.Div("surface", classes="fr-name")
