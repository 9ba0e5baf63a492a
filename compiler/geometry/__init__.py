"""Domains that are no boxes: shapes by a condition, meshes, and the tables of finite elements on them."""
