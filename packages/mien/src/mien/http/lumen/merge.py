"""One result from a service's messages."""

from mien.errors import NodeFailed
from mien.http.lumen.messages import Messages
from mien.inference.contract import InferResult
from mien.nodes.chunks import BadAnswer, assemble


async def collect(messages: Messages) -> InferResult:
    """The whole result: the final message, or the pieces put together where the service sent it in pieces.

    Raises what the service raises, and NodeFailed for pieces that do not fit together.
    """
    pieces: list[InferResult] = []
    while True:
        message = await messages.next()
        if message.total > 1:
            pieces.append(message)
        if message.is_final:
            break
    if not pieces:
        return message
    try:
        return assemble(pieces)
    except BadAnswer as error:
        raise NodeFailed(f"the service's answer does not fit together: {error}") from None
