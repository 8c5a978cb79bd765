"""`make mutants`: is every place of the numerics held by a test?

Each entry of tests/mutants.toml is a mutant: one change of one place, and the tests that must fail.

    name        of the mutant
    kind        sign, factor, term, driver, step, min-max, transposed, root-step, rounding, degrees
    file        the file that is changed
    find        the text that is replaced; it occurs exactly once in the file
    replace     the text that replaces it
    tests       arguments of pytest
    equivalent  the reason why no test can tell it from the original; absent otherwise

The tests have to pass on the unchanged files first. Each mutant then runs in a copy of the project:
it is caught if a test fails or does not end, and survives if all pass. A mutant that is called
equivalent must survive. Outcomes are kept in runs/mutants.jsonl; an outcome holds as long as the
changed file and the files of its tests stay as they are. Exit status 1: a mutant survived.

python tests/run_mutants.py                             every mutant
python tests/run_mutants.py --only doob-root sdewm/sde  names of mutants, files or folders
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

from sdewm.base.progress import Progress

ROOT = Path(__file__).resolve().parent.parent
KINDS = "sign factor term driver step min-max transposed root-step rounding degrees".split()
OUTCOMES = ("caught", "equivalent", "survived", "not equivalent", "broken")
HANG_SECONDS = 300.0  # a mutant may loop for ever
NOT_COPIED = (".*", "runs", "build", "dist", "figures", "*.egg-info", "__pycache__")


@dataclass(frozen=True)
class Mutant:
    """An entry of the list; see the head of this file."""

    name: str
    kind: str
    file: str
    find: str
    replace: str
    tests: tuple[str, ...]
    equivalent: str = ""

    def text(self, root: Path) -> str:
        """The changed file; ValueError unless `find` occurs exactly once in it."""
        given = (root / self.file).read_text(encoding="utf-8")
        if (count := given.count(self.find)) != 1:
            raise ValueError(
                f"mutant {self.name}: find={self.find!r} occurs {count} times in {self.file}; "
                "expected exactly once."
            )
        return given.replace(self.find, self.replace)

    def digest(self, root: Path) -> str:
        """Of the entry, of the changed file and of the files of its tests."""
        paths = [self.file, *sorted({test.split("::")[0] for test in self.tests})]
        parts = [repr(self), *((root / path).read_text(encoding="utf-8") for path in paths)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def read_mutants(path: Path) -> list[Mutant]:
    """The entries of a list; ValueError naming the entry that is malformed."""
    allowed = {field.name for field in fields(Mutant)}
    mutants: list[Mutant] = []
    for entry in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]:
        name = entry.get("name", "?")
        if set(entry) | {"equivalent"} != allowed:
            raise ValueError(
                f"mutant {name}: has {sorted(entry)}; expected {sorted(allowed)}, of which "
                "'equivalent' may be absent."
            )
        if entry["kind"] not in KINDS:
            raise ValueError(f"mutant {name}: kind={entry['kind']!r}; expected one of {KINDS}.")
        if not entry["tests"] or entry["find"] == entry["replace"]:
            raise ValueError(f"mutant {name}: expected at least one test, and a change.")
        mutants.append(Mutant(**{**entry, "tests": tuple(entry["tests"])}))
    twice = [name for name, count in Counter(one.name for one in mutants).items() if count > 1]
    if twice:
        raise ValueError(f"mutant {twice[0]}: occurs twice in {path.name}.")
    return mutants


def chosen(mutants: Sequence[Mutant], only: Sequence[str]) -> list[Mutant]:
    """The mutants that are named, or whose file is named or lies in a folder that is named."""
    found: dict[str, Mutant] = {}
    for word in only:
        path = word.rstrip("/")
        own = [
            one
            for one in mutants
            if one.name == path or one.file == path or one.file.startswith(path + "/")
        ]
        if not own:
            names = [*(one.name for one in mutants), *(one.file for one in mutants)]
            near = difflib.get_close_matches(word, names, n=1, cutoff=0.0)
            raise ValueError(f"--only {word}: no such mutant; did you mean {near[0]}?")
        found |= {one.name: one for one in own}
    return list(found.values()) if only else list(mutants)


def run_tests(copy: Path, tests: Sequence[str], *, unchanged: bool) -> tuple[str, str]:
    """What tests do in a copy of the project: "passed", "failed" or "broken"; and what was said.

    Tests that do not end count as failed.

    Compiled files are written for unchanged files only: a mutant may have the size and the second
    of the file that it replaces, and would then be taken for it.
    """
    # pytest imports the file of a doctest a second time if it meets it before the package.
    tests = sorted(tests, key=lambda test: test.startswith("sdewm/"))
    settings = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    settings |= {} if unchanged else {"PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=copy,
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=None if unchanged else HANG_SECONDS)
    except subprocess.TimeoutExpired:
        return "failed", f"no end within {HANG_SECONDS:g} seconds"
    finally:
        with suppress(ProcessLookupError):  # all of it has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return {0: "passed", 1: "failed"}.get(process.returncode, "broken"), said


def judge(mutant: Mutant, root: Path, copy: Path) -> str:
    """One of OUTCOMES; the copy is restored."""
    place = copy / mutant.file
    place.write_text(mutant.text(root), encoding="utf-8")
    try:
        found, said = run_tests(copy, mutant.tests, unchanged=False)
    finally:
        shutil.copy2(root / mutant.file, place)
    if found == "broken":
        sys.stderr.write(f"mutant {mutant.name}: pytest did not run its tests:\n{said[-2000:]}\n")
        return "broken"
    if mutant.equivalent:
        return "equivalent" if found == "passed" else "not equivalent"
    return "survived" if found == "passed" else "caught"


def run(root: Path, mutants: Sequence[Mutant], store: Path, workers: int) -> dict[str, str]:
    """The outcome of each mutant by name; those known from earlier runs are not run again.

    Raises:
        ValueError: a `find` that does not occur exactly once, or tests that do not pass on the
            unchanged files.
    """
    for mutant in mutants:
        mutant.text(root)
    digests = {mutant.name: mutant.digest(root) for mutant in mutants}
    known = _known(store)
    outcomes = {name: known[digest] for name, digest in digests.items() if digest in known}
    pending = [mutant for mutant in mutants if mutant.name not in outcomes]
    if not pending:
        return outcomes
    store.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, store.open("a", encoding="utf-8") as records:
        first = Path(folder) / "0"
        shutil.copytree(root, first, ignore=shutil.ignore_patterns(*NOT_COPIED))
        _check_unchanged(first, pending)
        free: queue.Queue[Path] = queue.Queue()
        free.put(first)
        for number in range(1, min(workers, len(pending))):  # with the compiled files of the first
            free.put(Path(shutil.copytree(first, Path(folder) / str(number))))
        progress = Progress("mutants", len(pending))

        def in_a_copy(mutant: Mutant) -> str:
            copy = free.get()
            try:
                return judge(mutant, root, copy)
            finally:
                free.put(copy)

        with ThreadPoolExecutor(min(workers, len(pending))) as pool:
            futures = {pool.submit(in_a_copy, mutant): mutant.name for mutant in pending}
            try:
                for done, future in enumerate(as_completed(futures), 1):
                    name = futures[future]
                    outcomes[name] = future.result()
                    row = {"name": name, "outcome": outcomes[name], "digest": digests[name]}
                    records.write(json.dumps(row) + "\n")
                    records.flush()
                    progress.update(done)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                progress.close()
    return outcomes


def _known(store: Path) -> dict[str, str]:
    """Digest -> outcome of earlier runs; a line that was cut off is passed over."""
    known = {}
    for line in store.read_text(encoding="utf-8").splitlines() if store.exists() else ():
        with suppress(ValueError, KeyError, TypeError):
            row = json.loads(line)
            if row["outcome"] != "broken":
                known[row["digest"]] = row["outcome"]
    return known


def _check_unchanged(copy: Path, mutants: Sequence[Mutant]) -> None:
    """The negative control: without a change, every test passes."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    sys.stderr.write(f"{len(tests)} tests on the unchanged files\n")
    found, said = run_tests(copy, tests, unchanged=True)
    if found != "passed":
        raise ValueError(f"the tests do not pass on the unchanged files:\n{said[-2000:]}")


def table(mutants: Sequence[Mutant], outcomes: dict[str, str]) -> str:
    """Numbers of mutants by folder and outcome."""
    rows = {folder: Counter() for folder in sorted({_folder(one) for one in mutants})}
    for one in mutants:
        rows[_folder(one)][outcomes[one.name]] += 1
    whole = sum(rows.values(), Counter())
    shown = [word for word in OUTCOMES if whole[word]]
    lines = [f"{'folder':28}{'mutants':>9}" + "".join(f"{word:>16}" for word in shown)]
    for folder, counts in [*rows.items(), ("all", whole)]:
        cells = "".join(f"{counts[word]:16}" for word in shown)
        lines.append(f"{folder:28}{counts.total():9}{cells}")
    return "\n".join(lines)


def _folder(mutant: Mutant) -> str:
    return str(Path(mutant.file).parent)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen mutants and print the table; 1 if one survived."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], help="names of mutants, files or folders")
    given = parser.parse_args(arguments)
    try:
        mutants = chosen(read_mutants(ROOT / "tests" / "mutants.toml"), given.only)
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
        outcomes = run(ROOT, mutants, ROOT / "runs" / "mutants.jsonl", min(workers, 8))
    except ValueError as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    print(table(mutants, outcomes))
    wrong = [one for one in mutants if outcomes[one.name] not in ("caught", "equivalent")]
    for one in wrong:
        print(f"{outcomes[one.name]}: {one.name} ({one.file}: {one.find!r} -> {one.replace!r})")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
