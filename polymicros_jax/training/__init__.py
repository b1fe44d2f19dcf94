"""Optimisation of a prior: state, step, checkpoints, weights."""
