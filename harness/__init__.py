"""What does it cost to wall off native code that is not trusted, and does the wall hold?

plan -> run -> results -> figures, tables: each step a module, each knowing only those before it.
"""
