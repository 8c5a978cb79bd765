"""Accuracy of open-loop predictions over the horizon, with baselines and calibration."""
