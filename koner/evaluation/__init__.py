"""Scores of predictions: protocols, bootstrap, slices, kinds of error, comparison, calibration."""
