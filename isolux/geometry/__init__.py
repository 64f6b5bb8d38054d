"""Cameras, meshes, fields, lattices and their surfaces; charts, tangents, surface metrics."""
