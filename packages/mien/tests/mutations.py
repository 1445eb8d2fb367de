"""Valid bytes, damaged in one of the ways that find faults in parsers."""

import random


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The bytes cut off, with flipped bits, with a stretch overwritten, removed or doubled."""
    copy = bytearray(data)
    match chance.randrange(6):
        case 0:
            return data[: chance.randrange(len(data))]
        case 1:
            for _ in range(chance.choice([1, 3, 30])):
                copy[chance.randrange(len(copy))] ^= 1 << chance.randrange(8)
        case 2:  # in the header, where sizes and types are
            for _ in range(chance.choice([1, 4])):
                copy[chance.randrange(min(64, len(copy)))] = chance.choice(
                    [0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)]
                )
        case 3:
            at = chance.randrange(len(copy))
            copy[at : at + chance.randrange(1, 40)] = chance.randbytes(chance.randrange(1, 40))
        case 4:
            at = chance.randrange(len(copy))
            del copy[at : at + chance.randrange(1, 200)]
        case _:
            at = chance.randrange(len(copy))
            copy[at:at] = copy[at : at + 200]
    return bytes(copy)
