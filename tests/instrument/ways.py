"""Every way to call a model through each library, as its documentation has it: one call each, read to its end."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would ask for the newest prices otherwise

import anthropic
import boto3
import huggingface_hub
import litellm
import openai
from google import genai

HELLO = "Hello"
MESSAGES: Any = [{"role": "user", "content": HELLO}]
BEDROCK_MESSAGES: Any = [{"role": "user", "content": [{"text": HELLO}]}]
USAGE: Any = {"include_usage": True}
MODELS = {
    "openai": "gpt-4o",
    "anthropic": "claude-sonnet-4-0",
    "google": "gemini-2.5-flash",
    "huggingface": "meta-llama/Llama-3.1-8B-Instruct",
    "bedrock": "us.anthropic.claude-3-5-sonnet-20241022-v2:0",
    "litellm": "gpt-4o",
}


def _openai(url: str) -> Any:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)


def _aopenai(url: str) -> Any:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)


def _anthropic(url: str) -> Any:
    return anthropic.Anthropic(base_url=url, api_key="x", max_retries=0)


def _aanthropic(url: str) -> Any:
    return anthropic.AsyncAnthropic(base_url=url, api_key="x", max_retries=0)


def _google(url: str) -> Any:
    return genai.Client(api_key="x", http_options={"base_url": url})


def bedrock(url: str) -> Any:
    """Return a client of Bedrock's runtime."""
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y"}
    return boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=url, **keys)


def openai_chat(url: str, model: str) -> Any:
    """A chat completion."""
    return _openai(url).chat.completions.create(model=model, messages=MESSAGES, max_tokens=9)


def openai_chat_stream(url: str, model: str) -> Any:
    """A streamed one, with usage."""
    stream = _openai(url).chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=9, stream=True, stream_options=USAGE
    )
    for _ in stream:
        pass
    return stream


def openai_chat_helper(url: str, model: str) -> None:
    """The stream helper."""
    with _openai(url).chat.completions.stream(model=model, messages=MESSAGES, stream_options=USAGE) as stream:
        stream.get_final_completion()


def openai_raw(url: str, model: str) -> Any:
    """With the raw response."""
    return _openai(url).chat.completions.with_raw_response.create(model=model, messages=MESSAGES)


def openai_responses(url: str, model: str) -> Any:
    """The Responses API."""
    return _openai(url).responses.create(model=model, input=HELLO)


def openai_responses_stream(url: str, model: str) -> Any:
    """The Responses API, streamed."""
    stream = _openai(url).responses.create(model=model, input=HELLO, stream=True)
    return stream if list(stream) else None


def anthropic_message(url: str, model: str) -> Any:
    """A message."""
    return _anthropic(url).messages.create(model=model, messages=MESSAGES, max_tokens=9)


def anthropic_stream(url: str, model: str) -> Any:
    """A streamed message."""
    stream = _anthropic(url).messages.create(model=model, messages=MESSAGES, max_tokens=9, stream=True)
    return stream if list(stream) else None


def anthropic_helper(url: str, model: str) -> None:
    """The stream helper."""
    with _anthropic(url).messages.stream(model=model, messages=MESSAGES, max_tokens=9) as stream:
        stream.get_final_message()


def anthropic_raw(url: str, model: str) -> Any:
    """With the raw response."""
    return _anthropic(url).messages.with_raw_response.create(model=model, messages=MESSAGES, max_tokens=9)


def google_generate(url: str, model: str) -> Any:
    """generate_content."""
    client = _google(url)  # it ends when nobody holds it
    return client.models.generate_content(model=model, contents=HELLO)


def google_stream(url: str, model: str) -> None:
    """generate_content_stream."""
    client = _google(url)
    list(client.models.generate_content_stream(model=model, contents=HELLO))


def google_chat(url: str, model: str) -> None:
    """A chat's message."""
    client = _google(url)
    client.chats.create(model=model).send_message(HELLO)


def huggingface_chat(url: str, model: str) -> Any:
    """chat_completion."""
    return huggingface_hub.InferenceClient(base_url=f"{url}/v1").chat_completion(MESSAGES, model=model, max_tokens=9)


def huggingface_openai(url: str, model: str) -> Any:
    """The spelling of OpenAI's client, streamed."""
    client = huggingface_hub.InferenceClient(base_url=f"{url}/v1")
    stream = client.chat.completions.create(MESSAGES, model=model, stream=True, stream_options=USAGE)
    return stream if list(stream) else None


def bedrock_converse(url: str, model: str) -> Any:
    """Converse."""
    return bedrock(url).converse(modelId=model, messages=BEDROCK_MESSAGES)


def bedrock_converse_stream(url: str, model: str) -> Any:
    """ConverseStream."""
    answer = bedrock(url).converse_stream(modelId=model, messages=BEDROCK_MESSAGES)
    return answer if list(answer["stream"]) else None


def bedrock_invoke(url: str, model: str) -> Any:
    """InvokeModel."""
    return bedrock(url).invoke_model(modelId=model, body=b"{}")


def bedrock_invoke_stream(url: str, model: str) -> Any:
    """InvokeModelWithResponseStream."""
    answer = bedrock(url).invoke_model_with_response_stream(modelId=model, body=b"{}")
    return answer if list(answer["body"]) else None


def litellm_completion(url: str, model: str) -> Any:
    """LiteLLM over OpenAI's client."""
    return litellm.completion(
        model=f"openai/{model}", messages=MESSAGES, api_base=f"{url}/v1", api_key="x", max_tokens=9
    )


def litellm_stream(url: str, model: str) -> Any:
    """LiteLLM over its own client of Anthropic's API, streamed."""
    stream = litellm.completion(
        model=f"anthropic/{model}", messages=MESSAGES, api_base=url, api_key="x", stream=True, stream_options=USAGE
    )
    return stream if list(stream) else None


async def openai_achat(url: str, model: str) -> Any:
    """A chat completion, awaited."""
    async with _aopenai(url) as client:
        return await client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=9)


async def openai_achat_stream(url: str, model: str) -> Any:
    """A streamed one, awaited."""
    async with _aopenai(url) as client:
        stream = await client.chat.completions.create(
            model=model, messages=MESSAGES, max_tokens=9, stream=True, stream_options=USAGE
        )
        async for _ in stream:
            pass
        return stream


async def anthropic_amessage(url: str, model: str) -> Any:
    """A message, awaited."""
    async with _aanthropic(url) as client:
        return await client.messages.create(model=model, messages=MESSAGES, max_tokens=9)


async def anthropic_ahelper(url: str, model: str) -> None:
    """The stream helper, awaited."""
    async with (
        _aanthropic(url) as client,
        client.messages.stream(model=model, messages=MESSAGES, max_tokens=9) as stream,
    ):
        await stream.get_final_message()


async def anthropic_araw(url: str, model: str) -> Any:
    """With the raw response, awaited."""
    async with _aanthropic(url) as client:
        return await client.messages.with_raw_response.create(model=model, messages=MESSAGES, max_tokens=9)


async def google_agenerate(url: str, model: str) -> Any:
    """generate_content, awaited."""
    client = _google(url)
    try:
        return await client.aio.models.generate_content(model=model, contents=HELLO)
    finally:
        await client.aio.aclose()


async def google_astream(url: str, model: str) -> None:
    """generate_content_stream, awaited."""
    client = _google(url)
    async for _ in await client.aio.models.generate_content_stream(model=model, contents=HELLO):
        pass
    await client.aio.aclose()


async def huggingface_achat(url: str, model: str) -> Any:
    """chat_completion, awaited."""
    async with huggingface_hub.AsyncInferenceClient(base_url=f"{url}/v1") as client:
        return await client.chat_completion(MESSAGES, model=model, max_tokens=9)


async def huggingface_astream(url: str, model: str) -> Any:
    """chat_completion, streamed and awaited."""
    async with huggingface_hub.AsyncInferenceClient(base_url=f"{url}/v1") as client:
        stream: Any = await client.chat_completion(MESSAGES, model=model, stream=True, stream_options=USAGE)
        async for _ in stream:
            pass
        return stream


async def litellm_acompletion(url: str, model: str) -> Any:
    """LiteLLM over OpenAI's client, awaited."""
    return await litellm.acompletion(
        model=f"openai/{model}", messages=MESSAGES, api_base=f"{url}/v1", api_key="x", max_tokens=9
    )


def _run(way: Callable[[str, str], Awaitable[Any]]) -> Callable[[str, str], Any]:
    def run(url: str, model: str) -> Any:
        async def once() -> Any:
            return await way(url, model)

        return asyncio.run(once())

    run.__name__ = way.__name__
    return run


_AWAITED: list[Any] = [
    openai_achat, openai_achat_stream, anthropic_amessage, anthropic_ahelper, anthropic_araw, google_agenerate,
    google_astream, huggingface_achat, huggingface_astream, litellm_acompletion,
]  # fmt: skip
WAYS: list[Callable[[str, str], Any]] = [
    openai_chat, openai_chat_stream, openai_chat_helper, openai_raw, openai_responses, openai_responses_stream,
    anthropic_message, anthropic_stream, anthropic_helper, anthropic_raw,
    google_generate, google_stream, google_chat, huggingface_chat, huggingface_openai,
    bedrock_converse, bedrock_converse_stream, bedrock_invoke, bedrock_invoke_stream,
    litellm_completion, litellm_stream, *map(_run, _AWAITED),
]  # fmt: skip


def model_of(way: Callable[[str, str], Any]) -> str:
    """Return a model that the library of a way would be asked for."""
    return MODELS[way.__name__.partition("_")[0]]
