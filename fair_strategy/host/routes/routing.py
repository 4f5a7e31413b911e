"""Routes whose refusals are sentences, also where FastAPI itself finds the request malformed."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from monailabel.config import settings
from pydantic import BaseModel, Field
from starlette.routing import BaseRoute


class Refusal(BaseModel):
    """Why a request was refused."""

    detail: str = Field(description="what was expected, what came, what to do")


REFUSALS: dict[int | str, dict[str, Any]] = {
    404: {"model": Refusal, "description": "there is no such thing"},
    422: {"model": Refusal, "description": "the request cannot be"},
    503: {"model": Refusal, "description": "not now: something it needs is away"},
}
"""Shown on the OpenAPI page for every route of ours, beside what a route refuses itself."""


class SentenceRoute(APIRoute):
    """A route that answers a malformed request with a 422 that names what was expected."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(
            *args, **kwargs | {"responses": REFUSALS | (kwargs.get("responses") or {})}
        )

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of the route; a request that does not fit it is a sentence, not a list."""
        handle = super().get_route_handler()

        async def handle_or_say(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                raise HTTPException(422, _sentence(error)) from error

        return handle_or_say


class StockRoute(SentenceRoute):
    """A route in front of one of MONAI Label's, on the OpenAPI page under the same heading."""

    def __init__(self, path: str, *args: Any, **kwargs: Any) -> None:
        first = path.removeprefix(settings.MONAI_LABEL_API_STR).split("/")[1]
        super().__init__(path, *args, **kwargs | {"tags": kwargs.get("tags") or [HEADINGS[first]]})


HEADINGS = {
    "activelearning": "ActiveLearning",
    "datastore": "Datastore",
    "infer": "Infer",
    "info": "App",
    "logs": "Others",
    "model": "Model",
    "scoring": "Scoring",
    "session": "Session",
    "train": "Train",
}


def describe(app: FastAPI, ours: Sequence[BaseRoute]) -> None:
    """Show our routes on the OpenAPI page: of two at one address FastAPI shows the last one."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            others = [route for route in app.routes if route not in ours]
            app.openapi_schema = get_openapi(
                title=app.title, version=app.version, routes=[*others, *ours]
            )
        return app.openapi_schema

    app.openapi_schema = None
    app.openapi = openapi  # type: ignore[method-assign]


def _sentence(error: RequestValidationError) -> str:
    # What was sent is not repeated: it may be long, or somebody's name.
    return "; ".join(
        f"{'.'.join(str(part) for part in e['loc'][1:]) or 'body'}: {e['msg']}"
        for e in error.errors()
    )
