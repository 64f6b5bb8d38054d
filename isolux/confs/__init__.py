"""Typed settings: the schema, its reader, and the presets. Imports nothing else of isolux."""
