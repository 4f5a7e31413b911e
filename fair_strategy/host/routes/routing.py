"""Routes whose refusals are sentences, also where FastAPI itself finds the request malformed."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field


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


def _sentence(error: RequestValidationError) -> str:
    # What was sent is not repeated: it may be long, or somebody's name.
    return "; ".join(
        f"{'.'.join(str(part) for part in e['loc'][1:]) or 'body'}: {e['msg']}"
        for e in error.errors()
    )
