"""How the tools of a conversation, and the calls of them, are written as text.

A conversation has both as JSON text: a list of functions (bare, or wrapped as OpenAI's API has them), and one call or a list
of calls. Whatever is wrong with them is a ValueError with a sentence.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

ToolFormat = Literal["default", "qwen", "glm"]


@dataclass(frozen=True)
class Call:
    """`arguments` is JSON text."""

    name: str
    arguments: str


def read_tools(text: str | None) -> list[dict[str, Any]]:
    """The functions, without OpenAI's wrapping: name, description, parameters (a JSON schema)."""
    listed = _read(text or "[]", "tools")
    if not isinstance(listed, list):
        raise ValueError("the tools must be a list of functions")
    functions = [tool.get("function", tool) if isinstance(tool, dict) else tool for tool in listed]
    for function in functions:
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ValueError("every tool must be an object with a name")
        parameters = function.get("parameters") or {}
        if not isinstance(parameters, dict) or not isinstance(parameters.get("properties") or {}, dict):
            raise ValueError(f"the parameters of the tool {function['name']!r} must be a JSON schema")
    return functions


def read_calls(text: str) -> list[Call]:
    """What a `function` message asks for. Arguments that are text already stay as they are."""
    listed = _read(text, "function call")
    calls = []
    for call in listed if isinstance(listed, list) else [listed]:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str) or "arguments" not in call:
            raise ValueError("a function call must be an object with a name and arguments")
        arguments = call["arguments"]
        calls.append(Call(call["name"], arguments if isinstance(arguments, str) else _json(arguments)))
    return calls


def with_tools(tool_format: ToolFormat, system: str, tools: list[dict[str, Any]]) -> str:
    """The system text with what it says of the tools."""
    return _DESCRIBED[tool_format](system, tools) if tools else system


def written_calls(tool_format: ToolFormat, calls: list[Call]) -> str:
    """The calls as the assistant writes them."""
    return "\n".join(_CALLED[tool_format](call) for call in calls)


def _default(system: str, tools: list[dict[str, Any]]) -> str:
    names = ", ".join(tool["name"] for tool in tools)
    return (
        f"{system}You have access to the following tools:\n{''.join(map(_tool, tools))}"
        "Use the following format if using a tool:\n```\n"
        f"Action: tool name (one of [{names}]).\n"
        "Action Input: the input to the tool, in a JSON format representing the kwargs "
        '(e.g. ```{"input": "hello world", "num_beams": 5}```).\n```\n'
    )


def _tool(tool: dict[str, Any]) -> str:
    parameters = tool.get("parameters") or {}
    required = parameters.get("required") or []
    lines = [_parameter(name, schema, name in required) for name, schema in (parameters.get("properties") or {}).items()]
    return f"> Tool Name: {tool['name']}\nTool Description: {tool.get('description', '')}\nTool Args:\n{''.join(lines)}\n"


def _parameter(name: str, schema: Any, required: bool) -> str:
    schema = schema if isinstance(schema, dict) else {}
    items = schema.get("items")
    one_of = f", should be one of [{', '.join(map(str, schema['enum']))}]" if schema.get("enum") else ""
    each = f", where each item should be {items.get('type', '')}" if isinstance(items, dict) and items else ""
    kind = f"{schema.get('type', '')}{', required' if required else ''}"
    return f"  - {name} ({kind}): {schema.get('description', '')}{one_of}{each}\n"


def _qwen(system: str, tools: list[dict[str, Any]]) -> str:
    functions = "\n".join(_json({"type": "function", "function": tool}) for tool in tools)
    before = f"{system}\n\n" if system else ""
    return (
        f"{before}# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n"
        f"<tools>\n{functions}\n</tools>\n\n"
        "For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n"
        '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
    )


# GLM's own descriptions differ from version to version; LLaMA-Factory 0.5 gave it the default ones, but calls of its own.
_DESCRIBED: dict[ToolFormat, Callable[[str, list[dict[str, Any]]], str]] = {"default": _default, "qwen": _qwen, "glm": _default}

_CALLED: dict[ToolFormat, Callable[[Call], str]] = {
    "default": lambda call: f"Action: {call.name}\nAction Input: {call.arguments}",
    "qwen": lambda call: f'<tool_call>\n{{"name": {_json(call.name)}, "arguments": {call.arguments}}}\n</tool_call>',
    "glm": lambda call: f"{call.name}\n{call.arguments}",
}


def _read(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"the {what} is not valid JSON: {error}") from None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
