"""The engines: Diptych and its peers, each in a process of its own, the only one to import its libraries.

An engine is built from a job (plain JSON) and runs one part at a time; workload.py is the process around it.
"""
