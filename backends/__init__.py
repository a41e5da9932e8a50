"""Walls around native code, each behind one contract. See `backends.contract`."""
