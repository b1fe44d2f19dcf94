"""Two-point statistics and random fields with designed ones."""
