"""A run: built from a configuration, optimised in stages, watched, saved, evaluated."""
