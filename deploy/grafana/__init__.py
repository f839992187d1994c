"""Grafana: dashboards as data, the script that writes them as JSON, and how they are provisioned."""
