"""Synthetic T1 cohorts with a controlled effect on the left caudate; brains or whole heads."""

from fair_strategy.data.synthetic.head import (
    Head,
    HeadParameters,
    draw_head,
    generate_head,
    render_head,
)
from fair_strategy.data.synthetic.subject import (
    Subject,
    SubjectParameters,
    draw_parameters,
    generate_subject,
)

__all__ = [
    "Head",
    "HeadParameters",
    "Subject",
    "SubjectParameters",
    "draw_head",
    "draw_parameters",
    "generate_head",
    "generate_subject",
    "render_head",
]
