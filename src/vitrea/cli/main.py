"""The ``vitrea`` command. It imports only the job that is asked for, so that ``vitrea --help`` is instant."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

import vitrea
from vitrea.cli.options import normalize_option, option_specs, repeat_names
from vitrea.cli.running import EXIT_INTERRUPTED, EXIT_USAGE, guarded
from vitrea.jobs import FAMILY_DEFAULTS, JOBS, RELION_NAMES, STAR_HANDLER, load_job

_ABOUT = "Cryo-EM structure determination, from particles to a map."
_EPILOG = "Hyphens and underscores in option names are the same: --zero_mask is --zero-mask. RELION's names work."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words after ``vitrea``; by default those of the process.

    Returns
    -------
    int
        Exit code: 0 done, 1 done with a bad verdict or a failure, 2 a mistake in what was given, 130 interrupted.
    """
    # Threads that wait by spinning for long starve each other where other programs use the same processors.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    words = name_job(sys.argv[1:] if arguments is None else arguments)
    chosen = next((word for word in words if not word.startswith("-")), "")
    return guarded(lambda: _invoke(words, chosen), lambda: f"vitrea {chosen}".strip())


def name_job(words: Sequence[str]) -> list[str]:
    """Return the words with the two of a job's name, as in ``pick blob``, made one; a family's default is filled in."""
    at = next((index for index, word in enumerate(words) if not word.startswith("-")), len(words))
    head, rest = list(words[:at]), list(words[at:])
    names = {entry.name for entry in JOBS}
    two = RELION_NAMES.get(" ".join(rest[:2]), " ".join(rest[:2]))
    if two == "star handler":
        two = _star_handler(rest[2:])
    if two in names:
        rest[:2] = [two]
    elif rest and rest[0] not in names:
        rest[0] = FAMILY_DEFAULTS.get(rest[0], rest[0])
    return head + rest


def _star_handler(words: Sequence[str]) -> str:
    """Return the job that does what these options ask of relion_star_handler; where none tells, its own name."""
    options = {normalize_option(word.split("=", 1)[0]).lstrip("-") for word in words if word.startswith("--")}
    return next((name for option, name in STAR_HANDLER.items() if option in options), "star handler")


def build_app(words: Sequence[str], chosen: str) -> typer.Typer:
    """Return the typer application in which only the chosen job has its options; the others are names."""
    settings = {"help_option_names": ["-h", "--help"], "token_normalize_func": normalize_option}
    app = typer.Typer(add_completion=False, rich_markup_mode="rich", context_settings=settings, no_args_is_help=True)
    app.callback(help=_ABOUT)(_global_options)
    for entry in JOBS:
        function = _load_command(entry.name, words) if entry.name == chosen else _name_only
        epilog = _epilog(entry.name) if entry.name == chosen else _EPILOG
        app.command(entry.name, short_help=entry.summary, epilog=epilog)(function)
    return app


def _epilog(name: str) -> str:
    """Return what stands below the options: the job's examples, and a hint; paragraphs become lines."""
    from vitrea.cli.command import escape_markup

    examples = [escape_markup(example) for example in load_job(name).examples]
    return "\n\n".join([*(["Examples:", *examples, ""] if examples else []), _EPILOG])


def _load_command(name: str, words: Sequence[str]) -> Callable[..., None]:
    from vitrea.cli.command import build_command

    typed = [part for word in words for part in (name.split() if word == name else (word,))]
    return build_command(load_job(name), typed)


def _name_only() -> None:
    """Stand for a job that is listed but was not asked for."""


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"vitrea {vitrea.__version__}\n")
        raise typer.Exit


_Version = typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)


def _global_options(version: Annotated[bool, _Version] = False) -> None:
    """Take the options that stand before the job's name."""


def _invoke(words: Sequence[str], chosen: str) -> int:
    """Run the application without its own handling of errors, so that all errors are told in one way."""
    family = [entry for entry in JOBS if entry.name.startswith(f"{chosen} ")] if chosen else []
    if family:
        width = max(len(entry.name) for entry in family)
        sys.stdout.write("".join(f"vitrea {entry.name:<{width}}  {entry.summary}\n" for entry in family))
        return 0 if {"-h", "--help"} & set(words) else EXIT_USAGE
    command = typer.main.get_command(build_app(words, chosen))
    known = chosen in {entry.name for entry in JOBS}
    given = repeat_names(words, option_specs(load_job(chosen).parameters)) if known else list(words)
    try:
        result = command.main(args=given, prog_name="vitrea", standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        return _usage_error(error, chosen)
    if result == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


def _usage_error(error: Exception, chosen: str) -> int:
    """Tell a mistake that typer found in one sentence; typer's other exceptions share only `format_message`."""
    message = getattr(error, "format_message", None)
    if message is None:
        raise error
    text = str(message()).rstrip()
    if not text or "\n" in text:  # the help page, shown where no command was given
        sys.stdout.write(f"{text}\n" if text else "")
        return EXIT_USAGE
    program = f"vitrea {chosen}" if chosen in {entry.name for entry in JOBS} else "vitrea"
    stop = "" if text.endswith((".", "?", ")")) else "."
    sys.stderr.write(f"{program}: {text}{stop} See {program} --help.\n")
    return EXIT_USAGE


if __name__ == "__main__":
    raise SystemExit(main())
