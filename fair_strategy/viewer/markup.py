"""Attributes that trame's widgets do not know: what is not in their list is dropped."""

from html import escape


def tagged(name: str) -> list[str]:
    """`raw_attrs` of a widget that tests and scripts find by a name."""
    return attributes(data_test=name)


def attributes(**given: str | tuple[str]) -> list[str]:
    """`raw_attrs` of a widget: a text as it is, a one-tuple as an expression of the page.

    `attributes(aria_label="undo", title=("name",))` -> `aria-label="undo"`, `:title="name"`.
    """
    made = []
    for name, value in given.items():
        shown = name.replace("_", "-")
        if isinstance(value, tuple):
            made.append(f':{shown}="{escape(value[0])}"')
        else:
            made.append(f'{shown}="{escape(value)}"')
    return made
