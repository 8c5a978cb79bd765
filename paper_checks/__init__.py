"""The paper's claims, checked by machine: `python -m paper_checks --help`."""
