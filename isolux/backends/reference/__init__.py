"""The operators in plain PyTorch: any device, float64, small, obvious and slow."""
