"""MATHEMATICS.md and the code say the same: the printed values, and the numbers that code cites."""

import re
from pathlib import Path

import pytest

import sdewm
from sdewm.sde import examples

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "paper_checks" / "MATHEMATICS.md").read_text(encoding="utf-8")
CASES = {
    "O1": examples.OrnsteinUhlenbeck,
    "O2": examples.LinearWorldModel,
    "O3": examples.GeometricBrownianMotion,
    "O3b": examples.ScaledGeometricBrownianMotion,
    "O4": examples.QuadraticCascade,
    "O5": examples.PearsonDiffusion,
    "O6": examples.ClosedLoop,
    "O7": examples.CircleDiffusion,
}
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if re.match(r"\| (case|O\d)", line)
]
NAMES = ROWS[0][1:]


def enumerated_terms(driver, steps):
    case = examples.EnumerationWorldModel()
    diffusion = case.error_diffusion if driver == "same" else case.independent_error_diffusion
    error = sdewm.Perturbation(drift=case.error_drift, diffusion=diffusion, driver=driver)
    grid = {"t1": case.t1, "steps": steps, "paths": 1, "increments": "enumerate"}
    terms = sdewm.expand(case, error, case.loss, case.x0, **grid).terms
    return {name: term.value for name, term in terms.items()}


@pytest.mark.parametrize("row", ROWS[1:], ids=lambda row: row[0])
def test_printed_values_are_those_of_the_code(row):
    label, driver = re.match(r"(O\d+b?) (same|independent)", row[0]).groups()
    steps = re.search(r"(\d+) steps", row[0])
    steps = int(steps[1]) if steps else None
    if label == "O8":
        exact = enumerated_terms(driver, steps)
    else:
        case = CASES[label](loss="h") if "L = h" in row[0] else CASES[label]()
        exact = case.exact_terms(driver=driver, steps=steps)
    printed = {name: cell for name, cell in zip(NAMES, row[1:], strict=True) if cell != "–"}
    for name, cell in printed.items():
        decimals = len(cell.partition(".")[2]) or 10
        assert exact[name] == pytest.approx(float(cell), abs=0.51 * 10**-decimals, rel=0), name


def test_every_cited_number_is_defined():
    defined = set(re.findall(r"^\*\*([SO]\d+[ab]?)[ ,`]", TEXT, flags=re.MULTILINE))
    files = [
        path
        for folder in ("sdewm", "analysis", "paper_checks", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".toml", ".md")
    ]
    cited = {
        (number, path.name)
        for path in files
        for number in re.findall(r"(?<![\w.])[SO]\d{1,2}[ab]?(?!\w)", path.read_text("utf-8"))
    }
    assert {(number, name) for number, name in cited if number not in defined} == set()
