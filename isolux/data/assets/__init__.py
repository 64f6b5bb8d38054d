"""Readers and writers of meshes, textures and probes."""
