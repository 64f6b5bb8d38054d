"""Positions to features: frequencies, hash grid, small networks."""
