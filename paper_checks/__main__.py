"""Check the claims of claims.toml, print a table of verdicts, and redraw figures/.

    python -m paper_checks [--only ID ...] [--paths N | --full] [--device D] [--json FILE]
                           [--resume]

Exit code: 0 if no claim fails (undecided claims are reported), 1 if a claim fails or a figure
cannot be drawn, 2 for an invalid command line, 130, 143 or 129 after Ctrl-C, SIGTERM or
SIGHUP.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from paper_checks.figure_tables import FROM_RUNS, rows_of
from paper_checks.findings import Settings
from paper_checks.ledger import (
    FOLDER,
    Claim,
    read_claims,
    read_ledger,
    result_texts,
    select,
    verdict_text,
    write_ledger,
    write_results,
)
from paper_checks.run import Figure, count_processes, run_tasks
from sdewm.base import records
from sdewm.base.checks import check_count, check_device
from sdewm.base.progress import format_seconds
from sdewm.plots.tables import text_table

KEYS = (
    "id mark measured standard_error predicted verdict negative_control seconds".split()
)  # of a row in the JSON file; the log also holds quantity, tightness, sharp and reason


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = _parse(arguments)
    try:
        claims = read_claims()
        chosen = select(claims, options.only)
        settings = Settings(
            paths=check_count("--paths", options.paths, minimum=2),
            seed=check_count("--seed", options.seed, minimum=0),
            device=str(check_device(options.device)),
        )
    except ValueError as error:
        print(f"python -m paper_checks: {error}", file=sys.stderr)
        return 2
    facts = records.manifest(seed=settings.seed, paths=settings.paths, device=settings.device)
    facts["code"] = records.code_digest()
    figures = [] if options.no_figures or options.only else _figures(options)
    kept = _kept_rows(options, facts, chosen)
    log = records.RowLog(options.log, facts, kept)
    rows, broken = list(kept), []
    done = {row["id"] for row in rows}
    waiting = [claim for claim in chosen if claim.id not in done]
    start, total = time.monotonic(), len(waiting) + len(figures)
    _say(
        f"{len(waiting)} claims with {settings.paths} paths and {len(figures)} figures on "
        f"{count_processes(total, settings.device)} processes; {len(kept)} rows kept"
    )
    _say(f"After an interruption of any kind, resume with: {_resume_command(arguments)}")
    stopped: list[int] = []
    try:
        tasks = _until_stopped(run_tasks(waiting, figures, settings), stopped)
        for count, (task, result) in enumerate(tasks, start=1):
            if isinstance(task, Claim):
                log.append(result)
                rows.append(result)
                text = f"{verdict_text(result)}, control {result['negative_control']}"
            else:
                text = result or "drawn"
                broken += [task.id] if result else []
            passed = time.monotonic() - start
            left = passed / count * (total - count)
            _say(
                f"[{count}/{total}] {format_seconds(passed)} elapsed, about "
                f"{format_seconds(left)} remaining · {task.id}: {text}"
            )
    except KeyboardInterrupt:
        _say(
            f"Interrupted: {len(rows)} of {len(chosen)} claims are finished and saved in "
            f"{_shown(options.log)}. Resume with: {_resume_command(arguments)}"
        )
        return 128 + stopped[0] if stopped else 130
    finally:
        log.close()
    for table in _tables() if figures else []:
        problem = table.run()
        _say(f"{table.id}: {problem or 'written'}")
        broken += [table.id] if problem else []
    order = [claim.id for claim in chosen]
    rows.sort(key=lambda row: order.index(row["id"]))
    report(chosen, rows, time.monotonic() - start, broken)
    if options.json is not None:
        kept_keys = [{key: row[key] for key in KEYS} for row in rows]
        records.write_json(options.json, kept_keys, facts)
    if not options.only and options.log == DEFAULT_LOG:
        run_time = format_seconds(sum(row["seconds"] for row in rows))
        write_results(rows, facts | {"processor time of the claims": run_time})
        write_ledger(FOLDER / "LEDGER.md", claims, *read_ledger())
    return 1 if broken or any(row["verdict"] == "fails" for row in rows) else 0


FULL_PATHS = 1_000_000
DEFAULT_LOG = records.ROOT / "runs" / "verify.jsonl"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m paper_checks", description=(__doc__ or "").split("\n\n")[0]
    )
    default = Settings()
    parser.add_argument(
        "--only", nargs="+", metavar="ID", help="check only these claims and draw no figures"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--paths",
        type=_whole,
        default=None,
        help=f"sample paths per problem (default: {default.paths})",
    )
    size.add_argument(
        "--full",
        dest="paths",
        action="store_const",
        const=FULL_PATHS,
        help=f"for publication: {FULL_PATHS} paths; errors are a third",
    )
    parser.add_argument(
        "--seed", type=_whole, default=default.seed, help="root seed (default: %(default)s)"
    )
    parser.add_argument(
        "--device", default=None, help=f"cpu or cuda[:index] (default: {default.device})"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the results to a JSON file"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the claims finished by an interrupted run and check the others",
    )
    parser.add_argument("--no-figures", action="store_true", help="do not redraw figures/")
    parser.add_argument(
        "--log",
        type=Path,
        default=DEFAULT_LOG,
        metavar="FILE",
        help=f"file for the result of each finished claim (default: {_shown(DEFAULT_LOG)})",
    )
    options = parser.parse_args(arguments)
    options.figure_options = []
    for name in ("paths", "device"):
        if getattr(options, name) is not None:
            options.figure_options += [f"--{name}", str(getattr(options, name))]
        else:
            setattr(options, name, getattr(default, name))
    return options


def _whole(text: str) -> int | float:
    """A whole number; notation such as 1e6 is allowed."""
    return int(text) if text.lstrip("-").isdigit() else float(text)


# Redrawn from their committed tables of finished runs; left out if a table is missing.
def _figures(options: argparse.Namespace) -> list[Figure]:
    figures = []
    for script in sorted((records.ROOT / "analysis").glob("fig_*.py")):
        if script.stem not in FROM_RUNS:
            figures.append(Figure(script, tuple(options.figure_options)))
        elif rows_of(script.stem).is_file():
            figures.append(Figure(script, ()))
    return figures


def _tables() -> list[Figure]:
    """Tables made from the numbers drawn in a figure."""
    return [Figure(records.ROOT / "analysis" / f"{name}.py", ()) for name in ("table_tightness",)]


def _kept_rows(
    options: argparse.Namespace, facts: dict[str, Any], chosen: Sequence[Claim]
) -> list[dict[str, Any]]:
    """Rows of the log that were computed with the present settings and code."""
    if not options.resume:
        return []
    rows, old = records.read_log(options.log)
    deciding = ("paths", "seed", "device", "code", "torch")
    different = [name for name in deciding if rows and old.get(name) != facts[name]]
    if different:
        _say(f"{_shown(options.log)} differs in {', '.join(different)}: starting anew")
        return []
    ids = {claim.id for claim in chosen}
    return [row for row in rows if row["id"] in ids]


def report(
    claims: Sequence[Claim], rows: Sequence[dict[str, Any]], seconds: float, broken: Sequence[str]
) -> None:
    """Print the table of verdicts and a summary."""
    header = ["claim", "quantity", "measured ± error", "predicted", "verdict", "control", "s"]
    cells = [
        [
            row["id"],
            row["quantity"],
            *result_texts(row),
            verdict_text(row),
            row["negative_control"],
            f"{row['seconds']:.1f}",
        ]
        for row in rows
    ]
    print(text_table(header, cells, right="s"))
    for row in rows:
        if row["verdict"] != "holds":
            print(f"{row['id']} {row['verdict']}: {row['reason']}")
    refuted = [
        claim.id
        for claim, row in zip(claims, rows, strict=True)
        if claim.control_is_recalled and row["verdict"] == "holds"
    ]
    if refuted:
        print(f"Refuted as recalled, confirmed as corrected: {', '.join(refuted)}.")
    count = {name: sum(row["verdict"] == name for row in rows) for name in _OUTCOMES}
    text = ", ".join(f"{count[name]} {word}" for name, word in _OUTCOMES.items())
    print(f"{len(rows)} claims: {text}; {format_seconds(seconds)}.")
    if broken:
        print(f"Not drawn: {', '.join(broken)} (error messages above).")


_OUTCOMES = {"holds": "hold", "fails": "fail", "undecided": "undecided"}


def _until_stopped(tasks: Iterator[Any], stopped: list[int]) -> Iterator[Any]:
    """The tasks; SIGTERM and SIGHUP end them as Ctrl-C does, and are noted in `stopped`."""

    def stop(number: int, frame: FrameType | None) -> None:
        if not stopped:
            stopped.append(number)
            raise KeyboardInterrupt

    heard = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # by nohup
    ]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield from tasks
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _resume_command(arguments: Sequence[str] | None) -> str:
    inside = Path(sys.executable).is_relative_to(Path.cwd())
    python = os.path.relpath(sys.executable) if inside else "python"
    words = [word for word in (sys.argv[1:] if arguments is None else arguments)]
    resume = [] if "--resume" in words else ["--resume"]
    return shlex.join([python, "-m", "paper_checks", *resume, *words])


def _shown(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
