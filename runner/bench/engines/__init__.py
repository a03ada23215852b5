"""Who computes: ours and its peers, each in a process of its own, which alone imports what it computes with.

An engine is built from a job (plain JSON) and runs one picture at a time, part by part; work.py is the process around it.
"""
