"""The search for training parameters with Optuna."""
