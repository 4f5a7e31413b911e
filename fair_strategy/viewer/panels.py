"""What the page looks like: login, bar, side panel, views, dialogs."""

from typing import TYPE_CHECKING, Any

from trame.ui.vuetify3 import VAppLayout
from trame.widgets import html, vuetify3 as vuetify

from fair_strategy.viewer.markup import attributes, tagged
from fair_strategy.viewer.panels_side import side_panel
from fair_strategy.viewer.shortcuts import by_group

if TYPE_CHECKING:
    from trame_slicer.core import LayoutManager

    from fair_strategy.viewer.page import ReviewPage

ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Ccircle cx='8' cy='8' r='7' fill='%235cc8e0'/%3E%3C/svg%3E"
)
THEME = {
    "theme": {
        "defaultTheme": "dark",
        # White is read on each of them; on Vuetify's own orange it is not.
        "themes": {
            "dark": {"colors": {"primary": "#1b7f9c", "surface": "#1b2027", "warning": "#a84d00"}}
        },
    }
}


def build(server: Any, page: "ReviewPage", layouts: "LayoutManager") -> None:
    """Write the page into the server's template."""
    with VAppLayout(server, vuetify_config=THEME) as layout:
        layout.root.theme = "dark"
        _problem(page)
        _snackbar()
        with html.Div(classes="fr-login", v_show=("screen === 'login'",)):
            _login(page)
        with html.Div(classes=("['fr', busy ? 'fr-busy' : '']",), v_show=("screen === 'read'",)):
            _bar(page)
            side_panel(page)
            with html.Div(classes="fr-views"):
                layouts.initialize_layout_grid(layout)
                _nothing_open(page)
        _skip_dialog(page)
        _exclude_dialog(page)
        _help_dialog()


def _login(page: "ReviewPage") -> None:
    with html.Form(raw_attrs=[f"@submit.prevent=\"trigger('{page.trigger(page.log_in)}')\""]):
        html.H1("Review")
        html.Div(
            "Scans are handed out under your name. Nobody else is given a scan while you have it.",
            classes="fr-quiet",
        )
        vuetify.VTextField(
            v_model=("name",),
            label="Your name",
            name="reader",
            autofocus=True,
            variant="outlined",
            density="comfortable",
            hide_details=True,
            autocomplete="off",
        )
        html.Div(
            "You were reading {{ remembered }}; it is opened again.",
            v_if=("remembered",),
            classes="fr-quiet fr-small",
        )
        vuetify.VBtn(
            "Start",
            raw_attrs=attributes(type="submit"),
            color="primary",
            size="large",
            loading=("busy",),
        )


def _bar(page: "ReviewPage") -> None:
    with html.Header(classes="fr-bar"):
        html.Div("Review", classes="fr-title fr-quiet")
        html.Div("{{ case_name }}", classes="fr-case", raw_attrs=tagged("case"))
        html.Div("{{ saved }}", classes="fr-quiet fr-small", raw_attrs=tagged("saved"))
        html.Div(classes="fr-grow")
        vuetify.VProgressCircular(v_if=("busy",), indeterminate=True, size=18, width=2)
        html.Div("{{ progress }}", classes="fr-small", raw_attrs=tagged("progress"))
        vuetify.VProgressLinear(
            model_value=("progress_share",),
            color="primary",
            rounded=True,
            height=6,
            style="width: 140px",
            raw_attrs=attributes(aria_label="labelled scans"),
        )
        html.Div("{{ name }}", classes="fr-quiet fr-small")
        _icon("mdi-keyboard-outline", "Keyboard (h)", "show_help = true")
        _icon("mdi-logout", "Leave; the draft is kept", page.log_out)


def _icon(icon: str, title: str, click: Any) -> None:
    vuetify.VBtn(
        icon=icon,
        title=title,
        click=click,
        variant="text",
        size="small",
        raw_attrs=attributes(aria_label=title),
    )


def _nothing_open(page: "ReviewPage") -> None:
    with html.Div(classes="fr-empty", v_if=("!has_case",)):
        html.Div(
            "No scan is left for you. Thank you.",
            v_if=("nothing_left",),
            raw_attrs=tagged("empty"),
        )
        html.Div("No scan is open.", v_if=("!nothing_left",))
        vuetify.VBtn(
            "Next scan (n)",
            click=page.next_case,
            color="primary",
            size="large",
            loading=("busy",),
            raw_attrs=tagged("next-large"),
        )


def _problem(page: "ReviewPage") -> None:
    with html.Div(
        classes="fr-problem",
        v_if=("problem",),
        raw_attrs=attributes(role="alert", data_test="problem"),
    ):
        html.Span("{{ problem }}")
        vuetify.VBtn("Retry", click=page.retry, loading=("busy",), raw_attrs=tagged("retry"))


def _snackbar() -> None:
    vuetify.VSnackbar(
        "{{ message }}",
        v_model=("say",),
        timeout=6000,
        location="top right",
        raw_attrs=tagged("message"),
    )


def _skip_dialog(page: "ReviewPage") -> None:
    with _dialog("show_skip", "Give this scan back"):
        with vuetify.VRadioGroup(v_model=("skip_reason",), hide_details=True):
            vuetify.VRadio(
                v_for="reason in skip_reasons", key="reason", label=("reason",), value=("reason",)
            )
        _answers("show_skip", "Skip", page.skip)


def _exclude_dialog(page: "ReviewPage") -> None:
    with _dialog("show_exclude", "Exclude this scan from the study"):
        html.P(
            "It is not offered again, to anybody, until the study lead takes that back.",
            classes="fr-quiet mb-3",
        )
        vuetify.VTextarea(
            v_model=("exclude_reason",),
            label="Reason (needed)",
            maxlength=200,
            counter=True,
            rows=2,
            autofocus=True,
            variant="outlined",
        )
        _answers("show_exclude", "Exclude", page.exclude, disabled=("!exclude_reason.trim()",))


def _help_dialog() -> None:
    with _dialog("show_help", "Keyboard", width=760):
        with html.Div(classes="fr-keys"):
            for group, shortcuts in by_group().items():
                with html.Section():
                    html.H2(group, classes="text-subtitle-2 mt-2")
                    for shortcut in shortcuts:
                        with html.Div():
                            html.Kbd(shortcut.key.replace("Arrow", "").replace("Shift+", "⇧ "))
                            html.Span(shortcut.text)
        html.P(
            "Tab goes from control to control. The wheel turns slices, the right button zooms; "
            "while looking, a drag sets contrast and brightness.",
            classes="fr-quiet fr-small mt-4",
        )
        vuetify.VBtn("Close", click="show_help = false", variant="text", classes="mt-2")


def _dialog(shown: str, title: str, *, width: int = 480) -> Any:
    dialog = vuetify.VDialog(v_model=(shown,), max_width=width, scrollable=True)
    with dialog, vuetify.VCard(title=title):
        return vuetify.VCardText()


def _answers(shown: str, text: str, click: Any, **more: Any) -> None:
    with html.Div(classes="d-flex justify-end mt-3", style="gap: 8px"):
        vuetify.VBtn("Cancel", click=f"{shown} = false", variant="text")
        vuetify.VBtn(text, click=click, color="warning", variant="flat", **more)
