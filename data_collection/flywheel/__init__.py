"""Shared library of the data_collection scripts, in five rooms: base, data, serving, learning, ops."""
