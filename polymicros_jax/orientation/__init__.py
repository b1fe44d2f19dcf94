"""Rotations, crystal symmetry and functions of orientation."""
