"""Automatic checks of the paper's claims: `python -m paper_checks --help`."""
