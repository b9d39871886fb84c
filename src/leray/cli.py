"""The command line: find the command, read its options, show errors as one line.

People read stderr; ``--json`` puts one object on stdout. Exit codes: 0 done, 1 failure, 2 usage,
3 a check not met (only where asked), 130 interrupted.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from leray.commands.terminal import short_warnings
from leray.errors import LerayError, nearest, plain

DONE, FAILURE, USAGE, INTERRUPTED = 0, 1, 2, 130


@dataclasses.dataclass(frozen=True)
class Command:
    """Where a command lives, and what the overview says of it.

    Args:
        group: The heading it stands under.
        module: Its module; imported only when the command runs.
        options: The dataclass of its options there, with a method ``run() -> int``.
        summary: One line.
        example: A command that works as it stands.
    """

    group: str
    module: str
    options: str
    summary: str
    example: str


COMMANDS = {
    "study importance": Command(
        "Studies",
        "leray.commands.study",
        "StudyImportance",
        "Which past turns matter now? Fit the weights, judge the claims, write a report.",
        "leray study importance --data locomo:../shared/data/locomo",
    ),
    "study architecture": Command(
        "Studies",
        "leray.commands.study_architecture",
        "StudyArchitecture",
        "Does sheaf structure make a language model better? Train, compare, judge the claims.",
        "leray study architecture --text ../shared/data/text/wikitext2.*.txt",
    ),
    "study circuits": Command(
        "Studies",
        "leray.commands.study_circuits",
        "StudyCircuits",
        "How large are circuits, what do they share, and do they carry over?",
        "leray study circuits",
    ),
    "study protection": Command(
        "Studies",
        "leray.commands.study_protection",
        "StudyProtection",
        "Can a model learn something new and forget nothing? Eighteen ways, and the claims judged.",
        "leray study protection",
    ),
    "study canaries": Command(
        "Studies",
        "leray.commands.study_canaries",
        "StudyCanaries",
        "Break models that go on learning, undo only what broke them, judge what is kept.",
        "leray study canaries --preset quick",
    ),
    "circuits find": Command(
        "Circuits",
        "leray.commands.circuits",
        "CircuitsFind",
        "The edges of a model that an ability needs, and what they keep of it.",
        "leray circuits find --model planted:sort",
    ),
    "claims": Command(
        "Studies",
        "leray.commands.claims",
        "Claims",
        "The ledger: every claim as it was fixed before a run.",
        "leray claims",
    ),
    "verdicts": Command(
        "Studies",
        "leray.commands.verdicts",
        "Verdicts",
        "The verdicts of several runs in one Markdown page, with dates and hashes.",
        "leray verdicts runs/importance-20260101T120000Z-0f3a2b1c --out verdicts.md",
    ),
    "bundle": Command(
        "Studies",
        "leray.commands.bundle",
        "BundleRun",
        "Put a finished run into one archive that someone else can repeat.",
        "leray bundle runs/importance-20260101T120000Z-0f3a2b1c",
    ),
    "reproduce": Command(
        "Studies",
        "leray.commands.bundle",
        "Reproduce",
        "Repeat the run of a bundle and compare every number; exits 3 on a difference.",
        "leray reproduce importance.zip --data locomo:../shared/data/locomo",
    ),
    "calibrate": Command(
        "Studies",
        "leray.commands.calibrate",
        "Calibrate",
        "What do the intervals cover, and do the tests keep their level? On planted data.",
        "leray calibrate --datasets 100",
    ),
    "algebra betti": Command(
        "Algebra",
        "leray.commands.algebra",
        "AlgebraBetti",
        "Betti numbers of a complex over Q or modulo a prime, with certificates.",
        "leray algebra betti --simplices torus.txt --field 2",
    ),
    "algebra sequence": Command(
        "Algebra",
        "leray.commands.algebra_sequences",
        "AlgebraSequence",
        "Exactness node by node; the long exact sequence of a short one of complexes.",
        "leray algebra sequence --file maps.json --field Q",
    ),
    "algebra pages": Command(
        "Algebra",
        "leray.commands.algebra_filtrations",
        "AlgebraPages",
        "The pages of the spectral sequence of a filtration, its limit and its abutment.",
        "leray algebra pages --complex bundle.json --field 2 --figure pages.png",
    ),
    "algebra barcode": Command(
        "Algebra",
        "leray.commands.algebra_filtrations",
        "AlgebraBarcode",
        "The intervals of persistent cohomology of a filtered simplicial complex.",
        "leray algebra barcode --simplices rips.txt --field 2 --figure barcode.svg",
    ),
    "data check": Command(
        "Data",
        "leray.commands.data",
        "DataCheck",
        "Read a source; say line by line what is wrong, repaired or dropped.",
        "leray data check conversations.jsonl",
    ),
    "lm train": Command(
        "Language models",
        "leray.commands.lm",
        "LmTrain",
        "Train a language model from a TOML file on your text or the embedded one.",
        "leray lm train configs/baseline.toml --out runs/baseline",
    ),
    "lm evaluate": Command(
        "Language models",
        "leray.commands.lm",
        "LmEvaluate",
        "Loss, perplexity and bits a byte of a trained model on text that it has not seen.",
        "leray lm evaluate runs/baseline",
    ),
    "lm generate": Command(
        "Language models",
        "leray.commands.lm",
        "LmGenerate",
        "Let a trained model write.",
        'leray lm generate runs/baseline --prompt "def main("',
    ),
    "lm export": Command(
        "Language models",
        "leray.commands.lm",
        "LmExport",
        "Write a trained model so that transformers loads it, its tokenizer included.",
        "leray lm export runs/baseline --out baseline-hf",
    ),
    "memory rank": Command(
        "Memory",
        "leray.commands.memory",
        "MemoryRank",
        "The turns of a conversation that matter to a query, with each signal's share.",
        'leray memory rank --weights weights.json --conversation c.jsonl --query "our holiday"',
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    try:
        with nullcontext() if debug else short_warnings():
            return _dispatch(args)
    except LerayError as error:
        return _failed(error, debug, FAILURE)
    except KeyboardInterrupt as stop:
        print(f"\n{plain(str(stop)) or 'interrupted'}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except Exception as error:
        return _failed(error, debug, FAILURE)


def _failed(error: Exception, debug: bool, code: int) -> int:
    if debug:
        raise error
    known = isinstance(error, LerayError | OSError)
    kind = "" if known else f"{type(error).__name__}: "
    more = "" if known else " (--debug shows where)"
    print(f"error: {kind}{plain(str(error))}{more}", file=sys.stderr)
    return code


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(overview())
        return DONE
    if args[0] == "--version":
        from importlib.metadata import version

        print(f"leray {version('leray')}")
        return DONE
    name = next((n for n in COMMANDS if args[: len(n.split())] == n.split()), None)
    if name is None:
        return _unknown(args)
    return _run(name, args[len(name.split()) :])


def _unknown(args: list[str]) -> int:
    words = [a for a in args[:2] if not a.startswith("-")]
    asked = " ".join(words) or args[0]
    below = [n for n in COMMANDS if n.split()[0] == asked.split()[0]]
    if below and (len(words) == 1):
        wanted = f"'leray {asked}' needs one more word: {', '.join(n.split()[1] for n in below)}"
    else:
        wanted = f"no command {asked!r}; there is {', '.join(COMMANDS)}{nearest(asked, COMMANDS)}"
    end = "" if wanted.endswith("?") else "."
    print(f"error: {plain(wanted)}{end} See 'leray --help'.", file=sys.stderr)
    return DONE if args[-1] in ("-h", "--help") else USAGE


def _run(name: str, args: list[str]) -> int:
    command = COMMANDS[name]
    options = getattr(importlib.import_module(command.module), command.options)
    import tyro

    try:
        chosen = tyro.cli(
            options,
            prog=f"leray {name}",
            description=f"{command.summary}\n\nExample: {command.example}",
            args=args,
        )
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else USAGE
    return chosen.run()


def overview() -> str:
    """Every command under its heading, with its defaults and an example."""
    lines = ["Leray turns a claim about a learning machine into a verdict, on one computer.", ""]
    group = ""
    for name, command in COMMANDS.items():
        if command.group != group:
            group = command.group
            lines += [group, "-" * len(group)]
        lines += [f"  leray {name}", f"      {command.summary}"]
        defaults = _defaults(command)
        lines += [f"      defaults: {defaults}"] if defaults else []
        lines += [f"      example:  {command.example}", ""]
    lines += [
        "'leray COMMAND --help' lists a command's options. Everywhere: --debug shows the traceback",
        "of an error. Exit codes: 0 done, 1 failure, 2 usage, 3 a check not met, 130 interrupted.",
    ]
    return "\n".join(lines)


def _defaults(command: Command) -> str:
    options = getattr(importlib.import_module(command.module), command.options)
    shown = []
    for f in dataclasses.fields(options):
        if isinstance(f.default, str | int) and not isinstance(f.default, bool):
            shown.append(f"--{f.name.replace('_', '-')} {f.default}")
    return " ".join(shown)


if __name__ == "__main__":
    sys.exit(main())
