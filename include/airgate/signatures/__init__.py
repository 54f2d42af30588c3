"""Signed statements about models: DSSE envelopes with in-toto statements, made where the key is, checked where a model is read.

Imports the contracts only, so that a step can check a signature before it reads a model.
"""
