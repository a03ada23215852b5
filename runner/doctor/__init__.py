"""`diptych doctor`: examines a machine, and says what to do about what is wrong.

It continues when something is broken: MLX is used only in processes that may crash (`trials`, runners), and a section that
fails is a finding of its own.
"""
