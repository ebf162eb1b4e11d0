"""What the commands' options have in common: types, and options made from a dataclass."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

import click

from vgpumonitor.durations import parse_seconds

log = logging.getLogger(__name__)

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

#: Where the context keeps which environment variables were ignored, and why.
_IGNORED = f"{__name__}.ignored"


class Parsed(click.ParamType[T], Generic[T]):
    """What ``parse`` makes of the text; the message of its ValueError is the user's."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        try:
            return self._parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def duration(minimum: float = 0.0) -> Parsed[float]:
    """Seconds, from a number of them or a Go duration; no fewer than ``minimum``."""

    def parse(text: str) -> float:
        seconds = parse_seconds(text)
        if seconds < minimum:
            raise ValueError(f"invalid duration {text!r}: expected at least {minimum:g} s")
        return seconds

    return Parsed("DURATION", parse)


@dataclass(frozen=True, slots=True)
class _Flag:
    help: str
    type: click.ParamType[Any] | None
    names: tuple[str, ...]
    variables: tuple[str, ...]
    variables_may_be_wrong: bool
    default_shown: str | None


def flag(
    default: T,
    help: str,  # noqa: A002  (click's word)
    *,
    type: click.ParamType[Any] | None = None,  # noqa: A002
    names: tuple[str, ...] = (),
    variables: tuple[str, ...] = (),
    variables_may_be_wrong: bool = False,
    default_shown: str | None = None,
) -> T:
    """A dataclass's field that has an option of the same name, with the environment variable
    ``VGPUMONITOR_…``. Its choices are those of its Literal, and its ``type`` what follows from
    the annotation unless given. ``names`` and ``variables`` are further ones; with
    ``variables_may_be_wrong`` one of these that can't be read is warned of and ignored."""
    found = _Flag(help, type, names, variables, variables_may_be_wrong, default_shown)
    return field(default=default, metadata={_Flag: found})


def flags(kind: Callable[..., T], *names: str) -> Callable[[F], F]:
    """Gives a command the options of the dataclass ``kind``, all or those of the fields
    ``names``, and passes the value made from them as its first argument."""
    hints = get_type_hints(kind)
    chosen = [f for f in fields(kind) if not names or f.name in names]  # type: ignore[arg-type]

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def with_value(**values: Any) -> Any:
            return command(kind(**{f.name: values.pop(f.name) for f in chosen}), **values)

        decorated: Any = with_value
        for f in reversed(chosen):
            decorated = _option(f.name, hints[f.name], f.default, f.metadata[_Flag])(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


def _option(name: str, hint: Any, default: Any, flag: _Flag) -> Callable[[F], F]:
    repeatable = get_origin(hint) is tuple
    kind = flag.type
    if get_origin(hint) is Literal:
        kind = click.Choice(get_args(hint))
    elif hint is Path or Path in get_args(hint):
        # Not refused here where it can't be read: whoever reads it tells, and may need less.
        kind = click.Path(readable=False, path_type=Path)
    return click.option(
        f"--{name.replace('_', '-')}",
        *flag.names,
        name,
        cls=_Option,
        type=kind,
        is_flag=hint is bool,
        multiple=repeatable,
        default=f"{default:g}" if hint is float else default,
        help=flag.help,
        envvar=[f"VGPUMONITOR_{name.upper()}", *flag.variables],
        may_be_wrong=flag.variables if flag.variables_may_be_wrong else (),
        show_envvar=True,
        show_default=flag.default_shown or True,
    )


class _Option(click.Option):
    def __init__(
        self, declarations: Sequence[str], *, may_be_wrong: tuple[str, ...], **attributes: Any
    ) -> None:
        super().__init__(declarations, **attributes)
        self._may_be_wrong = may_be_wrong

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        for variable in self.envvar or ():
            text = os.environ.get(variable)
            if not text:
                continue
            if variable in self._may_be_wrong:
                try:
                    self.type.convert(text, self, ctx)
                except click.BadParameter as error:
                    # The log is set up only when all options are known.
                    ctx.meta.setdefault(_IGNORED, {})[variable] = error.message
                    continue
            return text
        return None


def warn_of_ignored_variables() -> None:
    """Logs which environment variables the present command could not read and went on without."""
    for variable, error in click.get_current_context().meta.get(_IGNORED, {}).items():
        log.warning("environment variable ignored", extra={"variable": variable, "error": error})
