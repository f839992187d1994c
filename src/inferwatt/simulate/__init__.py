"""Engines and meters with known truth: what each request really used is known, because the world is made here. Pure.

Nothing in this room imports the attribution, so that truth and fit cannot share code (an import contract holds that).
"""
