"""Synthetic T1 cohorts with a controlled effect on the left caudate."""

from fair_strategy.data.synthetic.subject import (
    Subject,
    SubjectParameters,
    draw_parameters,
    generate_subject,
)

__all__ = ["Subject", "SubjectParameters", "draw_parameters", "generate_subject"]
