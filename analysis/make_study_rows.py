"""Copy the rows of studies from runs/studies to figures/data, to be committed.

    python analysis/make_study_rows.py cartpole
    python analysis/make_study_rows.py cartpole --restore

With --restore in the other direction, so that a study goes on elsewhere with the cells that are
missing. Figures, tables and claims about a study are computed from these files.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sdewm.base.checks import check_choice
from sdewm.study.committed import DATA, STUDIES, restore_results, write_results


def main(arguments: Sequence[str] | None = None) -> None:
    """Copy the rows of the studies that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="+", metavar="NAME", help="of analysis/studies/NAME.toml")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/studies"), help="where the studies run"
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the copies")
    parser.add_argument(
        "--restore", action="store_true", help="from figures/data to the folder of the study"
    )
    given = parser.parse_args(arguments)
    try:
        known = sorted(path.stem for path in STUDIES.glob("*.toml"))
        names = [check_choice("NAME", name, known) for name in given.studies]
        copy_results = restore_results if given.restore else write_results
        for name in names:
            print(copy_results(name, given.runs / name, given.data))
    except ValueError as problem:
        parser.error(str(problem))


if __name__ == "__main__":
    main()
