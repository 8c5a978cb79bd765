"""Floor 0: argument checks, automatic differentiation, statistics, progress and records.

Nothing here depends on SDEs or on agents.
"""
