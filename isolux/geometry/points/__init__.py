"""Surfaces from point clouds: cleaning, orienting, and the engines that fit a field."""
