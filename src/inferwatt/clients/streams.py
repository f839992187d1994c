"""Functions and streams that look on while a library answers.

A stream stays the object that the library made, of a class that only looks on; a generator is replaced by one that
looks on. What they do and raise is what the library does and raises.
"""

import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cache, wraps
from inspect import iscoroutine
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from inferwatt.clients.border import failed, guarded
from inferwatt.clients.calls import known
from inferwatt.clients.life import Asked, Call, begun, inside

Ask = Callable[..., Asked | None]
_CALL = "_inferwatt_call"
_OVER = object()


class Answer(dict[str, Any]):
    """A dict that can be remembered without being kept alive."""


def looking_on(original: Callable[..., Any], ask: Ask) -> Callable[..., Any]:
    """Return a function that does what `original` does, and counts it; `ask` says what its arguments ask for."""

    @wraps(original)
    def counted(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        call = begun(ask, args, kwargs)
        if call is None:
            return original(*args, **kwargs)
        token = inside.set(True)
        try:
            answer = original(*args, **kwargs)
        except BaseException as exc:
            call.fail(exc)
            raise
        finally:
            inside.reset(token)
        return _taken(call, answer)

    return counted


def looking_on_async(original: Callable[..., Awaitable[Any]], ask: Ask) -> Callable[..., Awaitable[Any]]:
    """Return a coroutine function that does what `original` does, and counts it."""

    @wraps(original)
    async def counted(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        call = begun(ask, args, kwargs)
        if call is None:
            return await original(*args, **kwargs)
        token = inside.set(True)
        try:
            answer = await original(*args, **kwargs)
        except BaseException as exc:
            call.fail(exc)
            raise
        finally:
            inside.reset(token)
        return await _ataken(call, answer)

    return counted


def _taken(call: Call, answer: Any) -> Any:  # noqa: ANN401 - the library's answer
    """Return the answer for the host: a whole one has ended its call, a stream will."""
    inner = guarded("an answer", _inner, answer)
    taken = guarded("an answer", _take, call, answer, inner)
    return answer if taken is None else taken


async def _ataken(call: Call, answer: Any) -> Any:  # noqa: ANN401
    """Return the answer for the host, where it may have to be awaited to be read."""
    inner = guarded("an answer", _inner, answer)
    if iscoroutine(inner):
        try:
            inner = await inner
        except Exception as exc:  # noqa: BLE001 - the host will see it when it reads the answer
            failed("an answer", exc)
            inner = None
    taken = guarded("an answer", _take, call, answer, inner)
    return answer if taken is None else taken


def _take(call: Call, answer: Any, inner: Any) -> Any:  # noqa: ANN401
    if isinstance(answer, GeneratorType | AsyncGeneratorType):
        watched: Any = _generator(call, answer) if isinstance(answer, GeneratorType) else _agenerator(call, answer)
        known.add(watched, call.ended)
        weakref.finalize(watched, call.leave).atexit = False
        return watched
    known.add(answer, call.ended)
    if isinstance(answer, Answer) and inner is not answer:
        call.see(answer)  # its id is beside its stream
    if inner is None:
        return answer  # its body is not here yet, and is the host's to read
    if _is_stream(inner):
        kind: type = type(inner)
        inner.__class__ = _looking_on(kind)
        vars(inner)[_CALL] = call
        weakref.finalize(inner, call.leave).atexit = False
    else:
        call.see(inner)
        call.end()
    known.add(inner, call.ended)
    return answer


def _inner(answer: Any) -> Any:  # noqa: ANN401
    """Return what of an answer can be read: a stream in a dict, what a raw answer holds, itself; None: nothing yet."""
    if isinstance(answer, Answer):
        return next(filter(_is_events, answer.values()), answer)
    response = getattr(answer, "http_response", None)
    if response is None or not callable(getattr(answer, "parse", None)):
        return answer
    is_stream = getattr(answer, "_is_sse_stream", getattr(answer, "_stream", False))
    return answer.parse() if is_stream or getattr(response, "is_closed", False) else None


def _is_events(thing: object) -> bool:
    """Say whether a thing is botocore's stream of events, which has no steps of its own."""
    return type(thing).__name__ == "EventStream"


def _is_stream(thing: object) -> bool:
    return hasattr(type(thing), "__next__") or hasattr(type(thing), "__anext__") or _is_events(thing)


# Steps.


def _next(call: Call, step: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Return the next piece, or `_OVER`."""
    token = inside.set(True)
    try:
        piece = step()
    except StopIteration:
        call.end()
        return _OVER
    except BaseException as exc:
        call.fail(exc)
        raise
    finally:
        inside.reset(token)
    call.piece(piece)
    return piece


async def _anext(call: Call, step: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401
    """Return the next piece, or `_OVER`."""
    token = inside.set(True)
    try:
        piece = await step()
    except StopAsyncIteration:
        call.end()
        return _OVER
    except BaseException as exc:
        call.fail(exc)
        raise
    finally:
        inside.reset(token)
    call.piece(piece)
    return piece


def _generator(call: Call, inner: Any) -> Iterator[Any]:  # noqa: ANN401
    """Go through a generator; its end, whatever it is, is the call's."""
    try:
        while (piece := _next(call, inner.__next__)) is not _OVER:
            yield piece
    finally:
        call.leave()
        inner.close()


async def _agenerator(call: Call, inner: Any) -> AsyncIterator[Any]:  # noqa: ANN401
    try:
        while (piece := await _anext(call, inner.__anext__)) is not _OVER:
            yield piece
    finally:
        call.leave()
        await inner.aclose()


def _rest(call: Call, inner: Any) -> Iterator[Any]:  # noqa: ANN401
    """Go through what is left of a stream; who breaks off may go on later, so that is no end."""
    while (piece := _next(call, inner.__next__)) is not _OVER:
        yield piece


async def _arest(call: Call, inner: Any) -> AsyncIterator[Any]:  # noqa: ANN401
    while (piece := await _anext(call, inner.__anext__)) is not _OVER:
        yield piece


# Classes that look on.


@cache
def _looking_on(kind: type) -> type:
    """Return a class like `kind`, by its name and one of it, whose steps are looked at."""
    own: dict[str, Any] = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    for name, made in _STEPS.items():
        original = getattr(kind, name, None)
        if original is not None:
            own[name] = wraps(original)(made(original))
    return type(kind.__name__, (kind,), own)


def _step_next(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def step(stream: Any) -> Any:  # noqa: ANN401
        piece = _next(vars(stream)[_CALL], lambda: original(stream))
        if piece is _OVER:
            raise StopIteration
        return piece

    return step


def _step_anext(original: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    async def step(stream: Any) -> Any:  # noqa: ANN401
        piece = await _anext(vars(stream)[_CALL], lambda: original(stream))
        if piece is _OVER:
            raise StopAsyncIteration
        return piece

    return step


def _step_iter(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def step(stream: Any) -> Any:  # noqa: ANN401
        inner = original(stream)
        return inner if inner is stream else _rest(vars(stream)[_CALL], inner)

    return step


def _step_aiter(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def step(stream: Any) -> Any:  # noqa: ANN401
        inner = original(stream)
        return inner if inner is stream else _arest(vars(stream)[_CALL], inner)

    return step


def _step_close(original: Callable[..., Any]) -> Callable[..., Any]:
    def step(stream: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if not inside.get():  # a library may close its own stream at the end
            vars(stream)[_CALL].abort()
        return original(stream, *args, **kwargs)

    return step


_STEPS: dict[str, Callable[[Any], Any]] = {
    "__next__": _step_next,
    "__anext__": _step_anext,
    "__iter__": _step_iter,
    "__aiter__": _step_aiter,
    "close": _step_close,
    "aclose": _step_close,
}
