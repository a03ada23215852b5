"""The bench: models at real sizes, part by part, beside other engines. What `diptych bench` runs."""
