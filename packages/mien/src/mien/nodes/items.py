"""A request's payload: one image or text, or, between Mien nodes, a batch of them."""

import msgspec

from mien.decode.budget import Limits
from mien.decode.count_msgpack import MsgpackPass
from mien.errors import RequestError
from mien.inference.contract import Item
from mien.inference.sniff import media_type

BATCH_MIME = "application/x-mien-items"
"""A MessagePack array of [media type, bytes] pairs."""
BATCH_LIMITS = Limits(4096 * 7, depth=2, noun="the batch")
"""For 4096 pairs: they are unpacked on the event loop."""


def pack(items: tuple[Item, ...]) -> Item:
    """One payload that holds all the items."""
    return Item(msgspec.msgpack.encode([(item.mime, item.data) for item in items]), BATCH_MIME)


def unpack(payload: bytes, declared: str) -> tuple[Item, ...]:
    """The items of a payload. Raises RequestError, InvalidField, BodyTooLarge."""
    mime = media_type(payload, declared)
    if mime != BATCH_MIME:
        return (Item(payload, mime),)
    MsgpackPass(payload, BATCH_LIMITS).run()
    try:
        pairs = msgspec.msgpack.decode(payload, type=list[tuple[str, bytes]])
    except msgspec.DecodeError as error:
        raise RequestError(f"the payload is not a batch of items: {error}") from None
    if not pairs:
        raise RequestError("the batch is empty")
    return tuple(Item(data, media_type(data, kind)) for kind, data in pairs)
