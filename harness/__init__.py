"""Measure what it costs to wall off native code that is not trusted.

plan -> run -> results -> figures, tables: each step a module, each knowing only those before it.
"""
