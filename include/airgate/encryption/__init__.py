"""Encryption at rest: each artifact under a data key of its own, each data key wrapped by a key that the installation holds.

Imports settings and contracts only: steps write and read with it, light tasks and the command line read.
"""
