"""What the gateway and the runner share of HTTP: connections and their limits, and which requests are let in."""
