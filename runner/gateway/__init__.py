"""Many models behind one port: runners started on demand, kept while there is room, ended when there is none. No MLX."""
