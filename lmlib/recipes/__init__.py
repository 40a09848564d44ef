"""Recipes: each remakes one shipped asset or model with `python -m lmlib.recipes.<name>`."""
