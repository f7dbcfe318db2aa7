"""Plots, the HTML report, the model card and the packaged model."""
