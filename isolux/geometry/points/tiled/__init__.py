"""The engine `hierarchy` on clouds that do not fit in memory: tiles, from disk to disk."""
