"""What is read of a model's answer and what is put into it: for the gateway, and for servers' own middleware (pure)."""
