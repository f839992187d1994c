"""The gateway: an OpenAI-compatible reverse proxy that says with every answer what energy it took."""
