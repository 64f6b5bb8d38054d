"""A small network that tells each cell of a hierarchy how far its points are to be trusted."""
