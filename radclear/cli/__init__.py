"""The `radclear` command: folder in, folder out.

Every command lives in a module of its own with `add_arguments(parser)` and `run(args) -> exit code`. Nothing
heavier than the standard library is imported before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from radclear import __version__
from radclear.errors import RadclearError

EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE, EXIT_READER_GONE = 0, 1, 2, 141

COMMANDS = {
    "predict": "answer tumor location, lung disease and stage for CT studies",
    "embed": "write the slice embeddings of CT studies to HDF5 files",
    "crossval": "train a head fold by fold: out-of-fold predictions, and an ensemble to deploy",
    "evaluate": "measure a prediction table against its labels: figures with intervals, curves, a report",
    "info": "show versions and bundles",
    "doctor": "check this machine and explain what is missing",
    "phantom": "write synthetic torso CT studies with known labels",
    "pack": "pack a bundle as a self-contained zip",
    "benchmark": "measure the speed of this machine on every stage of a study's way",
}


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The argument parser; only the arguments of `command` are filled in, which keeps `--help` fast."""
    parser = argparse.ArgumentParser(
        prog="radclear",
        description="A CT study in; tumor location, lung disease and stage out.",
        epilog="Exit codes: 0 all done, 1 some studies failed, 2 wrong usage.",
    )
    parser.add_argument("--version", action="version", version=f"radclear {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="log what is being done and why")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + "."
        )
        if name == command:
            importlib.import_module(f"radclear.cli.{name}").add_arguments(subparser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; those of the process when omitted.

    Returns:
        The exit code: 0 ok, 1 some studies failed, 2 wrong usage or input.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in argv if word in COMMANDS), None)
    args = build_parser(command).parse_args(argv)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        return importlib.import_module(f"radclear.cli.{args.command}").run(args)
    except RadclearError as error:
        print(f"radclear {args.command}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_READER_GONE
    except OSError as error:
        print(f"radclear {args.command}: {_describe(error, argv)}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print(
            f"radclear {args.command}: stopped; finished studies are kept, the same command resumes",
            file=sys.stderr,
        )
        return 130


def _describe(error: OSError, argv: Sequence[str]) -> str:
    """What the system said; with the path where the user typed it or sits at the screen, as it may name a
    patient."""
    reason = error.strerror or str(error)
    if error.filename is None:
        return reason
    typed = str(error.filename) in argv or sys.stderr.isatty()
    return f"{error.filename}: {reason}" if typed else f"{reason} (run it on a terminal to see where)"


if __name__ == "__main__":
    sys.exit(main())
