"""What the benchmark of the gateway needs: a server that costs little, a load that costs little, and the proxies."""
