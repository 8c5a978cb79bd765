"""Studies: arms, seeds and end points declared in advance, cells trained, verdicts computed."""
