"""Surfaces from point clouds: what is read, cleaned and oriented, and the engines that fit it."""
