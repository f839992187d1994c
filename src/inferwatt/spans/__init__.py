"""Takes OpenTelemetry's spans of calls to models, that other instrumentations make, as records of managed APIs."""
