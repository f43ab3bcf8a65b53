"""Data sets: the catalogue, how each is made, and the packed arrays that training reads.

Importing this package costs nothing; `lqf.data.catalogue` knows the names, `lqf.data.prepare`
writes a data set to disk, and `lqf.data.packed` reads it back.
"""
