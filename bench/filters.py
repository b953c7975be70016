"""What a filter costs for one message: SQL92 expressions over the properties of an ordinary message.

    python -m bench.filters
    python -m bench.filters --rounds 3000

For each expression the fastest of many short rounds, in nanoseconds for one message whose properties are looked at, and
the time that it takes to compile it. The fastest, because whatever else the machine does only adds to it; the median is
beside it.
"""

from __future__ import annotations

import argparse
import timeit
from statistics import median
from typing import Final

from posthouse.model.properties import encode_properties
from posthouse.model.sql92 import compile_sql92

MESSAGE: Final = encode_properties(
    {
        "KEYS": "order-20481",
        "UNIQ_KEY": "7F0000010E4618B4AAC2351FC8A90000",
        "CLUSTER": "DefaultCluster",
        "WAIT": "true",
        "TAGS": "created",
        "region": "eu-west",
        "price": "129",
        "weight": "1.5",
        "MSG_REGION": "DefaultRegion",
        "TRACE_ON": "true",
    }
).encode()

TYPICAL: Final = "price > 100 AND region = 'eu-west'"
EXPRESSIONS: Final = (
    TYPICAL,
    "price > 100",
    "region = 'eu-west'",
    "TAGS IN ('created', 'paid')",
    "price BETWEEN 100 AND 200",
    "weight > 1.2",
    "absent = 'x'",
    "region = 'us' OR region = 'eu-west'",
    "TAGS = 'created' AND price >= 100 AND region IS NOT NULL AND KEYS STARTSWITH 'order-'",
)
_LOOKS: Final = 1_000


def nanoseconds(expression: str, rounds: int) -> list[float]:
    test = compile_sql92(expression)
    assert test(MESSAGE) is not ("absent" in expression)
    times = timeit.repeat("test(message)", globals={"test": test, "message": MESSAGE}, number=_LOOKS, repeat=rounds)
    return sorted(each / _LOOKS * 1e9 for each in times)


def compile_us(expression: str, rounds: int) -> float:
    return min(timeit.repeat(lambda: compile_sql92.__wrapped__(expression), number=10, repeat=rounds)) / 10 * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.filters", description="SQL92 expressions, per message.")
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    print(f"properties of {len(MESSAGE)} bytes; the typical expression is the first\n")
    print("| expression | ns, fastest | ns, median | compiling, us |\n|---|---:|---:|---:|")
    for expression in EXPRESSIONS:
        times = nanoseconds(expression, rounds)
        print(f"| `{expression}` | {times[0]:.0f} | {median(times):.0f} | {compile_us(expression, rounds):.0f} |")


if __name__ == "__main__":
    main()
