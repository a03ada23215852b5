"""`diptych doctor`: what there is to know of a machine, and what to do about what is wrong with it.

Everything here goes on when something is broken: MLX is only touched in processes that may crash (`trials`, runners), and
a section that cannot be looked at is a finding of its own.
"""
