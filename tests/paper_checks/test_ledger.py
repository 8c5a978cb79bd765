"""claims.toml is well formed, and LEDGER.md is its picture."""

import inspect

import pytest

from paper_checks import ledger

CLAIMS = ledger.read_claims()


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_claim_names_a_check_and_a_control_that_exist(claim):
    check = ledger.named("paper_checks", claim.check)
    inspect.signature(check).bind(None, None, **claim.arguments)
    assert inspect.getdoc(claim.control)
    assert all((claim.statement, claim.ours, claim.number, claim.limits))
    assert not claim.figure or (ledger.FOLDER.parent / "figures" / f"{claim.figure}.png").is_file()


def test_a_recalled_form_is_only_refuted_where_it_was_corrected():
    assert all(claim.mark == "corrected" for claim in CLAIMS if claim.control_is_recalled)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("check =", "chekc ="), "chekc"),
        (('mark = "new"', 'mark = "nwe"'), "did you mean 'new'"),
        (('id = "parity"', 'id = "order-even"'), "order-even"),
    ],
)
def test_a_mistake_in_the_ledger_is_named(change, message, tmp_path):
    text = (ledger.FOLDER / "claims.toml").read_text("utf-8")
    path = tmp_path / "claims.toml"
    path.write_text(text.replace(*change, 1), "utf-8")
    with pytest.raises(ValueError, match=message):
        ledger.read_claims(path)


def test_the_ledger_shows_every_claim_as_it_stands_in_the_toml():
    text = (ledger.FOLDER / "LEDGER.md").read_text("utf-8")
    for claim in CLAIMS:
        assert f"## {claim.id}\n" in text, "run `make verify`"
        assert claim.statement in text
        assert claim.ours in text


def test_ledger_states_results(tmp_path):
    claim = CLAIMS[0]
    row = {
        **{"id": claim.id, "mark": claim.mark, "quantity": "c2", "reason": "because"},
        **{"measured": 0.25, "standard_error": 0.01, "predicted": 0.26},
        **{"verdict": "holds", "negative_control": "red", "seconds": 1.0, "used": 0.2},
        **{"false_alarm": 1e-3, "first_measured": 0.31, "first_error": 0.02},
    }
    facts = {"paths": 10, "seed": 0, "device": "cpu", "torch": "2"}
    ledger.write_ledger(tmp_path / "LEDGER.md", [claim], [row], facts)
    text = (tmp_path / "LEDGER.md").read_text("utf-8")
    assert "0.250 ± 0.010" in text and "| 20 % used | holds |" in text
    assert "0.310 ± 0.020 in the first run, 0.250 ± 0.010 with four times the paths" in text
    assert "fails is at most 0.001 in the first run and 1e-06 after the rerun" in text
    assert claim.limits in text
    loose = row | {"tightness": 75_000.0, "sharp": False}
    ledger.write_ledger(tmp_path / "loose.md", [claim], [loose], facts)
    assert "| holds, vacuous (×75000) |" in (tmp_path / "loose.md").read_text("utf-8")
    assert "1 claims by verdict: 1 holds. Run with 10 paths" in text
    assert "Outcome: red." in text


@pytest.mark.parametrize(
    ("verdict", "tightness", "sharp", "text"),
    [
        ("holds", 1.02, True, "holds, sharp (×1.02)"),
        ("holds", 999.0, False, "holds, not sharp (×999)"),
        ("holds", 1e11, False, "holds, vacuous (×1.00e+11)"),
        ("holds", float("inf"), False, "holds, vacuous (×inf)"),
        ("holds", None, False, "holds"),
        ("fails", 0.5, True, "fails"),
    ],
)
def test_a_bound_that_holds_says_how_tight_it_is(verdict, tightness, sharp, text):
    row = {"verdict": verdict, "tightness": tightness, "sharp": sharp}
    assert ledger.verdict_text(row) == text
