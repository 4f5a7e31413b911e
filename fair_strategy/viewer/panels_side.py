"""The side panel: why this scan, how it is shown, the tools, and what is done with it."""

from typing import TYPE_CHECKING, Any

from trame.widgets import html, vuetify3 as vuetify

from fair_strategy.viewer.markup import attributes, tagged
from fair_strategy.viewer.tools import Cut, Smoothing, Tool

if TYPE_CHECKING:
    from fair_strategy.viewer.page import ReviewPage

_ICONS = {
    Tool.look: "mdi-cursor-default-outline",
    Tool.paint: "mdi-brush",
    Tool.erase: "mdi-eraser",
    Tool.scissors: "mdi-content-cut",
    Tool.threshold: "mdi-tune-vertical",
    Tool.islands: "mdi-scatter-plot-outline",
    Tool.smoothing: "mdi-blur",
}
_CUTS = {
    Cut.erase_inside: "erase inside",
    Cut.erase_outside: "erase outside",
    Cut.fill_inside: "fill inside",
    Cut.fill_outside: "fill outside",
}


def side_panel(page: "ReviewPage") -> None:
    """The panel at the left."""
    with html.Aside(classes="fr-side"):
        with html.Div(classes="fr-scroll"), html.Div(v_show=("has_case",)):
            _why(page)
            _uncertainty(page)
            _tools(page)
            _shown()
        _actions(page)


def _why(page: "ReviewPage") -> None:
    html.H2("Why this scan")
    with html.Div(
        v_if=("percentile !== null",),
        classes="fr-percentile",
        raw_attrs=attributes(role="img", aria_label="uncertainty in the pool"),
    ):
        html.I(style=("`left: ${percentile}%`",))
    html.Div("{{ line }}", v_for="line in why_lines", key="line", raw_attrs=tagged("why"))
    html.Div("{{ why_model }}", v_if=("why_model",), classes="fr-quiet fr-small")
    with html.Div(classes="fr-note", v_if=("hidden",), raw_attrs=tagged("hidden")):
        html.Div("{{ hidden_text }}")
        _button("Show the pre-segmentation (p)", page.reveal, classes="mt-2", size="small")


def _uncertainty(page: "ReviewPage") -> None:
    with html.Div(v_show=("!hidden",)):
        html.H2("Uncertainty")
        with html.Div(classes="fr-row"):
            vuetify.VSwitch(
                v_model=("overlay_shown",),
                label="Overlay (e)",
                disabled=("!has_overlay",),
                hide_details=True,
                density="compact",
                color="primary",
                raw_attrs=tagged("overlay"),
            )
        _slider(
            "from",
            "overlay_threshold",
            "0",
            "overlay_highest",
            "0.01",
            "overlay_threshold.toFixed(2) + ' nat'",
            disabled=("!has_overlay",),
        )
        _slider(
            "opacity",
            "overlay_opacity",
            "0",
            "1",
            "0.05",
            "(100 * overlay_opacity).toFixed(0) + ' %'",
            disabled=("!has_overlay",),
        )
        with html.Div(classes="fr-row"):
            _icon(
                page, "previous_peak", "mdi-chevron-left", "Previous place (,)", needs="has_peaks"
            )
            _button(
                "Most uncertain (u)",
                page.actions["most_uncertain"],
                size="small",
                disabled=("!has_peaks",),
                classes="flex-grow-1",
            )
            _icon(page, "next_peak", "mdi-chevron-right", "Next place (.)", needs="has_peaks")
        html.Div(
            "{{ peaks }}",
            classes="fr-quiet fr-small text-center",
            raw_attrs=tagged("peaks"),
        )


def _tools(page: "ReviewPage") -> None:
    html.H2("Draw")
    vuetify.VSelect(
        v_if=("segments.length > 1",),
        v_model=("segment",),
        items=("segments",),
        item_title="name",
        item_value="id",
        hide_details=True,
        density="compact",
        variant="outlined",
        classes="mb-2",
    )
    with html.Div(classes="fr-tools", raw_attrs=attributes(role="toolbar", aria_label="tools")):
        for number, tool in enumerate(Tool, start=1):
            vuetify.VBtn(
                icon=_ICONS[tool],
                title=f"{tool.value.capitalize()} ({number})",
                click=f"tool = '{tool.value}'",
                color=(f"tool === '{tool.value}' ? 'primary' : undefined",),
                variant=(f"tool === '{tool.value}' ? 'flat' : 'tonal'",),
                rounded="lg",
                density="comfortable",
                style="width: 100%",
                raw_attrs=attributes(
                    aria_label=tool.value,
                    aria_pressed=(f"tool === '{tool.value}'",),
                    data_test=f"tool-{tool.value}",
                ),
            )
        with html.Div(classes="d-flex"):
            _icon(page, "undo", "mdi-undo", "Undo (Ctrl+z)", needs="can_undo")
            _icon(page, "redo", "mdi-redo", "Redo (Ctrl+y)", needs="can_redo")
    with html.Div(classes="mt-2"):
        html.Div(
            "Drag in a slice: across for contrast, up and down for brightness.",
            v_if=("tool === 'look'",),
            classes="fr-quiet fr-small",
        )
        _brush()
        _scissors()
        _threshold(page)
        _islands(page)
        _smoothing(page)


def _brush() -> None:
    with html.Div(v_if=("['paint', 'erase'].includes(tool)",)):
        _slider(
            "brush",
            "brush_mm",
            "brush_range[0]",
            "brush_range[1]",
            "0.5",
            "brush_mm.toFixed(1) + ' mm'",
        )
        vuetify.VCheckbox(
            v_model=("sphere",),
            label="round, through slices (b)",
            hide_details=True,
            density="compact",
        )


def _scissors() -> None:
    with html.Div(v_if=("tool === 'scissors'",)):
        vuetify.VSelect(
            v_model=("cut",),
            items=("cuts", [{"title": text, "value": cut.value} for cut, text in _CUTS.items()]),
            label="Draw a line around",
            hide_details=True,
            density="compact",
            variant="outlined",
        )
        html.Div(
            "Draw with the mouse, or set corners at the cross-hair: Space; then Enter. "
            "A cut goes through all slices.",
            classes="fr-quiet fr-small mt-1",
        )
        html.Div(
            "{{ corners }} corner{{ corners > 1 ? 's' : '' }} set"
            "{{ corners < 3 ? '; three or more make a cut' : '; Enter cuts' }}",
            v_if=("corners",),
            classes="fr-small mt-1",
            raw_attrs=attributes(role="status", data_test="corners"),
        )


def _threshold(page: "ReviewPage") -> None:
    with html.Div(v_if=("tool === 'threshold'",)):
        _range("paint_range", "Intensities")
        vuetify.VCheckbox(
            v_model=("paint_within",),
            label="draw only within",
            hide_details=True,
            density="compact",
        )
        _button("Keep only what lies within", page.editing.keep_within, size="small", block=True)


def _islands(page: "ReviewPage") -> None:
    with html.Div(v_if=("tool === 'islands'",), style="display: grid; gap: 8px"):
        _button("Keep the largest piece", page.editing.keep_largest, size="small")
        _slider("smaller than", "smallest", "1", "200", "1", "smallest + ' vox'")
        _button("Remove small pieces", page.editing.remove_small, size="small")


def _smoothing(page: "ReviewPage") -> None:
    with html.Div(v_if=("tool === 'smoothing'",), style="display: grid; gap: 8px"):
        vuetify.VSelect(
            v_model=("smoothing",),
            items=("smoothings", [how.value for how in Smoothing]),
            label="Smoothing",
            hide_details=True,
            density="compact",
            variant="outlined",
        )
        _slider("size", "smoothing_mm", "0.5", "10", "0.5", "smoothing_mm.toFixed(1) + ' mm'")
        _button("Smooth", page.editing.smooth, size="small")


def _shown() -> None:
    html.H2("Shown")
    _range("window", "Window")
    vuetify.VSwitch(
        v_model=("mask_shown",),
        label="Mask (m)",
        hide_details=True,
        density="compact",
        color="primary",
    )


def _actions(page: "ReviewPage") -> None:
    with html.Div(classes="fr-actions"):
        vuetify.VBtn(
            "Submit (Ctrl+Enter)",
            click=(page.submit, "[case_name]"),
            color="primary",
            disabled=("!has_case",),
            loading=("busy",),
            block=True,
            raw_attrs=tagged("submit"),
        )
        with html.Div(classes="fr-pair"):
            _button(
                "Skip (k)",
                "show_skip = true",
                disabled=("!has_case",),
                raw_attrs=tagged("skip"),
            )
            _button(
                "Exclude (x)",
                "show_exclude = true",
                disabled=("!has_case",),
                raw_attrs=tagged("exclude"),
            )
            _button(
                "Next scan (n)",
                page.next_case,
                disabled=("has_case || busy",),
                raw_attrs=tagged("next"),
            )
            _button(
                "Re-open (o)",
                page.reopen,
                disabled=("has_case || busy",),
                title="Open the last case that you submitted",
                raw_attrs=tagged("reopen"),
            )
        vuetify.VCheckbox(
            v_model=("auto_next",),
            label="then take the next scan",
            hide_details=True,
            density="compact",
        )


def _slider(label: str, name: str, low: str, high: str, step: str, value: str, **more: Any) -> None:
    with html.Div(classes="fr-row"):
        html.Span(label, classes="fr-label")
        vuetify.VSlider(
            v_model=(name,),
            min=(low,),
            max=(high,),
            step=(step,),
            hide_details=True,
            density="compact",
            track_size=3,
            thumb_size=14,
            color="primary",
            raw_attrs=attributes(aria_label=label),
            **more,
        )
        html.Span(f"{{{{ {value} }}}}", classes="fr-value")


def _range(name: str, label: str) -> None:
    with html.Div(classes="fr-row"):
        html.Span(label, classes="fr-label", style="width: 70px")
        vuetify.VRangeSlider(
            v_model=(name,),
            min=("intensities[0]",),
            max=("intensities[1]",),
            step=("(intensities[1] - intensities[0]) / 200",),
            hide_details=True,
            density="compact",
            track_size=3,
            thumb_size=14,
            color="primary",
            raw_attrs=attributes(aria_label=label),
        )
    html.Div(
        f"{{{{ {name}[0].toFixed(0) }}}} – {{{{ {name}[1].toFixed(0) }}}}",
        classes="fr-quiet fr-small text-right",
        style="margin-top: -6px",
    )


def _button(text: str, click: Any, *, size: str = "default", **more: Any) -> None:
    vuetify.VBtn(text, click=click, variant="tonal", size=size, **more)


def _icon(page: "ReviewPage", action: str, icon: str, title: str, *, needs: str) -> None:
    vuetify.VBtn(
        icon=icon,
        title=title,
        click=page.actions[action],
        disabled=(f"!{needs}",),
        variant="text",
        density="comfortable",
        raw_attrs=attributes(aria_label=title, data_test=action),
    )
