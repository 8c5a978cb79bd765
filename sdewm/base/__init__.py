"""Floor 0: checks, automatic differentiation, statistics, progress and records.

Knows no SDE and no agent.
"""
