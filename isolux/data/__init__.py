"""Scenes of every format as views: cameras, colour, coverage."""
