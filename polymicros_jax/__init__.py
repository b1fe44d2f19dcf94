"""Generative models of polycrystalline material structure."""
