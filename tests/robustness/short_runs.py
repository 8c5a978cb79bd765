"""Copies of the shipped runs whose episodes have 125 policy steps instead of 500."""

import json
import shutil

from tests.child_process import ROOT

SHIPPED = ROOT / "paper_checks" / "small_models"


def short_copy(name, folder):
    """A copy of a shipped run that repeats each action four times as often."""
    shutil.copytree(SHIPPED / name, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "action_repeat": 8}))
    return folder
