"""Console script ``fair-strategy``.

A verb is one module of this package with one function of the verb's name; add it to VERBS.
Modules import what is heavy inside that function, so that ``--help`` answers at once.
"""

from typing import Any

import typer
from typer.core import TyperGroup

from fair_strategy.cli.audit import audit
from fair_strategy.cli.erase import erase
from fair_strategy.cli.options import fail
from fair_strategy.cli.rank import rank
from fair_strategy.cli.report import report
from fair_strategy.cli.review import review
from fair_strategy.cli.score import score
from fair_strategy.cli.score_study import score_study
from fair_strategy.cli.simulate import simulate
from fair_strategy.cli.synth import synth
from fair_strategy.cli.task import task
from fair_strategy.cli.train import train
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.store.errors import StoreError, UnknownCaseError

VERBS = (synth, score, score_study, rank, train, simulate, report, audit, task, review, erase)


_BAD_PATH = (
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


class _Verbs(TyperGroup):
    """Bad input is a sentence and exit code 2; a system that fails, a sentence and 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, StoreError, UnknownCaseError) as error:
            fail(str(error), code=2)
        except ArchiveUnavailable as error:
            fail(str(error), code=1)
        except BrokenPipeError:  # whoever read the answer has gone: click ends quietly
            raise
        except OSError as error:
            fail(_sentence(error), code=2 if isinstance(error, _BAD_PATH) else 1)

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the work, not of the alphabet."""
        return list(self.commands)


def _sentence(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


app = typer.Typer(
    cls=_Verbs,
    name="fair-strategy",
    help="Fair active learning for medical image segmentation.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for verb in VERBS:
    app.command()(verb)


def main() -> None:
    """Run the command line."""
    app()
