"""A program with OpenLLMetry's instrumentation and ours, in a process of its own: what it changes it does not put back.

Arguments: the stand-ins' address, and where spans go. It prints the provenance of each call's figure.
"""

import sys

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import inferwatt
from tests.instrument import ways

api, traces = sys.argv[1:]
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(traces)))
inferwatt.instrument(managed=["127.0.0.1"])
OpenAIInstrumentor().instrument(tracer_provider=provider)
for way in (ways.openai_chat, ways.openai_chat_stream):
    call = inferwatt.energy_of(way(api, "my-own-name"))
    sys.stdout.write(f"{call.provenance if call else None}\n")
provider.shutdown()
