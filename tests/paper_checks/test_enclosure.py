"""The check of enclosed rollouts fails where its bounds are understated."""

from paper_checks.check_enclosure import attacked
from paper_checks.findings import Settings
from paper_checks.negative_controls.expansions import identity
from paper_checks.negative_controls.trained_models import understate_tenth


def test_no_attack_exceeds_the_bounds_and_the_control_fails():
    settings = Settings()
    found = attacked(settings, identity, steps=3)
    assert found.verdict.outcome == "holds"
    assert 1.0 <= found.tightness < 1.05 and found.sharp
    assert attacked(settings, understate_tenth, steps=3).verdict.outcome == "fails"
