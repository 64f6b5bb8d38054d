"""Pictures of meshes: G-buffer, materials, light, shading, baking, metrics."""
