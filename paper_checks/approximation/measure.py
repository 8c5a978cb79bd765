"""Measure the table of fig_approximation: trained autoencoders and interpolants.

    python -m paper_checks.approximation.measure [--seeds N] [--updates N] [--out FOLDER]

Every finished row is written at once; a repeated command computes only the rows that are missing.
About twenty minutes on two busy cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from paper_checks.approximation.autoencoder import BATCH, RATE, train
from paper_checks.approximation.distances import errors, wasserstein
from paper_checks.approximation.interpolants import equal_knots, largest_error, power, weierstrass
from paper_checks.approximation.manifolds import MANIFOLDS, antipodal_unit
from sdewm.base.checks import check_count
from sdewm.base.progress import Progress
from sdewm.base.records import ROOT, manifest, read_table, write_table

STEM = "fig_approximation"
WIDTHS, IMAGES = (2, 4, 8, 16), (64, 512)
TESTED, MATCHED = 2048, 512  # states tested; the first of them are matched for W₁
KNOTS = (8, 16, 32, 64, 128, 256, 512)
TARGETS = {
    "x^0.75": power(0.75),
    "x^1.75": power(1.75),
    "Weierstrass 0.75": weierstrass(0.75),
}
PROCESSES = 2


class Cell(NamedTuple):
    """One autoencoder."""

    name: str
    latent: int
    width: int
    images: int
    seed: int


def cells(seeds: int) -> list[Cell]:
    """All autoencoders; the smaller sample only with latents that admit an embedding."""
    return [
        Cell(name, latent, width, images, seed)
        for seed in range(seeds)
        for name, manifold in MANIFOLDS.items()
        for latent in manifold.latents
        for images in (IMAGES if latent == manifold.latents[-1] else IMAGES[-1:])
        for width in WIDTHS
    ]


def trained_row(cell: Cell, updates: int) -> dict[str, Any]:
    """Errors of one autoencoder on new states, in units of `antipodal_unit`."""
    torch.set_num_threads(1)
    manifold = MANIFOLDS[cell.name]
    tested = manifold.draw(TESTED, np.random.default_rng(10_000))
    unit = antipodal_unit(manifold, tested)
    images = manifold.render(manifold.draw(cell.images, np.random.default_rng(cell.seed)))
    model = train(images, cell.latent, cell.width, updates, cell.seed)
    x = manifold.render(tested).flatten(1).numpy()
    y = model(manifold.render(tested).float()).double().flatten(1).numpy()
    found = errors(x, y) / unit
    bounded = manifold.bounded and cell.latent == manifold.dimension
    return {
        "kind": "trained",
        **cell._asdict(),
        "largest_error": float(found.max()),
        "mean_error": float(found.mean()),
        "matched_error": float(found[:MATCHED].mean()),
        "wasserstein": wasserstein(x[:MATCHED], y[:MATCHED]) / unit,
        "bound": 1.0 if bounded else None,
    }


def interpolant_rows() -> Iterator[dict[str, Any]]:
    """Largest errors of piecewise-linear interpolants and their bounds (S32)."""
    for name, target in TARGETS.items():
        for width in KNOTS:
            yield {
                **{"kind": "interpolant", "name": name, "latent": None, "width": width},
                **{"images": None, "seed": None},
                "largest_error": largest_error(target, equal_knots(width)),
                **{"mean_error": None, "matched_error": None, "wasserstein": None},
                "bound": target.bound(width),
            }


def measure(table: Path, seeds: int, updates: int) -> None:
    """Compute the rows that the table does not hold; a complete table stays as it is."""
    settings = {"updates": updates, "rate": RATE, "batch": BATCH, "tested": TESTED}
    rows: list[dict[str, Any]] = []
    wanted = cells(seeds)
    if table.is_file():
        known, facts = read_table(table)
        if all(facts.get(name) == str(value) for name, value in settings.items()):
            rows = [row for row in known if row["kind"] == "trained" and _cell(row) in wanted]
    finished = {_cell(row) for row in rows}
    missing = [cell for cell in wanted if cell not in finished]
    if not missing:
        return
    exact = [*interpolant_rows()]
    progress = Progress(STEM, len(wanted), len(finished))
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        for row in pool.map(trained_row, missing, [updates] * len(missing)):
            rows.append(row)
            progress.update(len(rows))
            write_table(table, [*rows, *exact], manifest(seed=0, **settings))
    progress.close()
    rows.sort(key=lambda row: wanted.index(_cell(row)))
    write_table(table, [*rows, *exact], manifest(seed=0, **settings))


def _cell(row: dict[str, Any]) -> Cell:
    return Cell(*(row[name] for name in Cell._fields))


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, at least 2")
    parser.add_argument("--updates", type=int, default=600, help="updates of each autoencoder")
    parser.add_argument("--out", type=Path, default=ROOT / "figures", help="folder of the files")
    given = parser.parse_args(arguments)
    try:
        seeds = check_count("--seeds", given.seeds, 2)
        updates = check_count("--updates", given.updates)
    except ValueError as problem:
        parser.error(str(problem))
    measure(given.out / "data" / f"{STEM}.csv", seeds, updates)


if __name__ == "__main__":
    main()
