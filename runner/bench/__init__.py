"""The bench: models at real sizes, part by part, beside other engines. `diptych bench` and benchmarks/gpu.py."""
