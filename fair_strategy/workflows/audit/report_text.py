"""What the report of an audit says in words: rules, limits, summary, notes, glossary."""

from fair_strategy.workflows.audit.audit import Audit
from fair_strategy.workflows.audit.curves import VOXELS, WITHIN
from fair_strategy.workflows.audit.findings import Finding, feature_words, plain_number, shown
from fair_strategy.workflows.audit.grouping import Grouping
from fair_strategy.workflows.reporting.text import NBSP, interval, listed

_FLAGS_SHOWN = 12
_SET_ASIDE = 0.8
RULES = (
    "A gap is the value of the best subgroup minus that of the worst, among the ranked ones. It is "
    "named as a finding only if its permutation test, corrected by Holm over all tested gaps of "
    "the audit, has p below {alpha:g}. The labels are dealt anew among persons, so that several "
    "scans of one person stay together. Where no subgroup differs from another, an audit names "
    "anything at all in at most {percent:g} of 100 audits.",
    "“By chance up to”: 95 of 100 gaps lie below it when the labels are dealt anew. With these "
    "numbers of cases a smaller gap could not have been seen; a larger one may still fail the "
    "correction for the number of tests.",
    "A subgroup is ranked from {ranked} persons on, an intersection of features from {crossed}; "
    "smaller ones, and cases without a value of the feature ('unknown'), are listed only. Where "
    "there are fewer than 5 persons the text says “n < 5”; the figures are in audit.json, flagged.",
    "Intervals are 95 % percentile intervals of a bootstrap over persons within subgroups "
    "({draws} resamples, seed {seed}). That of a gap is of the difference between the two "
    "subgroups that are the highest and the lowest here.",
    "“Shrunk” is the value drawn towards the other subgroups' as far as a subgroup is small. The "
    "raw value is the finding; the shrunk one is a second opinion on small subgroups.",
    "The skewed error ratio is the worst subgroup's error over the best one's (1 is fair). "
    "Equity-scaled scores are the overall score divided by 1 + disparity; FairSeg's sums the "
    "distances of the subgroups from the overall score, the other takes their standard deviation.",
)
LIMITS = (
    "An audit tells how this model did on these cases. It does not tell why, and other cases may "
    "differ in more than the feature: age, severity, scanner.",
    "“No gap was shown” is not “there is no gap”: read what the test could have seen.",
    "The expected calibration error grows where there are few cases, by chance alone; compare it "
    "between subgroups of like size, or read confidence minus accuracy instead.",
    "Dice favours large structures: a subgroup with smaller ones scores lower at the same error of "
    "the contour. Read the surface distance beside it.",
)


def lead(audit: Audit) -> str:
    """What was tested, on how many cases, by which subgroups."""
    evidence = audit.evidence
    targets = [target.name for target in evidence.targets if target.name]
    what = f" of {listed(targets)}" if targets else ""
    persons = len(set(evidence.subject_ids))
    of = "" if persons == evidence.n else f" of {persons} persons"
    groups = "; ".join(_sizes(grouping) for grouping in audit.groupings)
    return (
        f"What was tested: {evidence.task}{what}, {evidence.n} cases{of}. Compared were, by "
        f"{groups}."
    )


def _sizes(grouping: Grouping) -> str:
    words = []
    for name in grouping.names:
        n = int(grouping.members(name).sum())
        if n:
            few = grouping.persons[name] < 5
            words.append(f"{name} (n < 5)" if few else f"{name} (n = {n})")
    return f"{feature_words(grouping.feature)}: {listed(words)}"


def summary(audit: Audit) -> list[str]:
    """A line a feature: which subgroup was named, for what."""
    lines = []
    for grouping in audit.groupings:
        named: dict[str, list[str]] = {}
        for finding in audit.findings:
            if finding.named and finding.feature == grouping.feature:
                named.setdefault(finding.group, []).append(_titled(audit, finding))
        words = [f"subgroup {name} is worse off in {listed(of)}" for name, of in named.items()]
        found = "; ".join(words) or "no gap between subgroups was shown"
        lines.append(f"By {feature_words(grouping.feature)}: {found}.")
    return lines


def _titled(audit: Audit, finding: Finding) -> str:
    title = next(r.measure.title for r in audit.results if r.measure.name == finding.measure)
    title = title if title[:2].isupper() or title == "Dice" else title[0].lower() + title[1:]
    return f"{title} of {finding.target}" if finding.target else title


def set_aside(audit: Audit, grouping: Grouping) -> str:
    """What the curves say at 80 % of each subgroup's cases; a description, no finding."""
    sentences = []
    for curve in audit.curves:
        primary = next(t for t in audit.evidence.targets if t.name == curve.target).primary.measure
        if (curve.feature, curve.kind) != (grouping.feature, WITHIN) or curve.measure != primary:
            continue
        place = int(abs(curve.metric.levels - _SET_ASIDE).argmin())
        before, after = float(curve.gap[-1]), float(curve.gap[place])
        if before != before or after != after:
            continue
        around = ""
        if curve.gap_band is not None:
            low, high = curve.gap_band[:, place]
            around = f" (95{NBSP}% {interval(low, high, plain_number)})"
        of = f" of {curve.target}" if curve.target else ""
        sentences.append(
            f"Among the certain four fifths of each subgroup the gap in {primary.title}{of} is "
            f"{shown(primary)(after)}{around}, instead of {shown(primary)(before)}."
        )
    return " ".join(sentences)


def notes(audit: Audit) -> list[str]:
    """Flags as readers see them: many of one kind become a number."""
    whole = [flag.what for flag in audit.flags if not flag.case_id]
    counted: dict[tuple[str, str], list[str]] = {}
    for flag in audit.flags:
        if flag.case_id:
            counted.setdefault((flag.target, flag.what), []).append(flag.case_id)
    cases = []
    for (target, what), ids in counted.items():
        of = f" ({target})" if target else ""
        several = f"{len(ids)} cases" if len(ids) > 1 else "1 case"
        cases.append(f"{several}{of}: {what}. Listed in tables/flags.csv.")
    found = [*dict.fromkeys(whole), *cases]
    more = len(found) - _FLAGS_SHOWN
    return found[:_FLAGS_SHOWN] + ([f"{more} more in tables/flags.csv"] if more > 0 else [])


def glossary(audit: Audit) -> list[str]:
    """A line for each measure of the report."""
    measures = {m.measure.name: m.measure for t in audit.evidence.targets for m in t.measured}
    lines = [
        f"{measure.title}: {measure.about or 'see the documentation'}."
        for measure in measures.values()
    ]
    if any(curve.kind == VOXELS for curve in audit.curves):
        lines.append("τ: voxels whose uncertainty, 0 to 100 over the data set, is above τ are set "
                     "aside; at τ = 100 none is.")  # fmt: skip
    return lines
