"""What the plugin, the stat logger and the metrics page need of vLLM, read from the source of several versions."""
