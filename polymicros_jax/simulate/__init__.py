"""Simulated polycrystals: Voronoi tessellations and normal grain growth, periodic, as grain numbers on a grid."""
