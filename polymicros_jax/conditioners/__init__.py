"""Projections and guides: physics meets diffusion."""
