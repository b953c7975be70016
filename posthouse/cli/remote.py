"""What all commands that ask a server have in common: its options, the run of a coroutine, errors as exit codes.

The client is imported when a command runs, so that `--help` needs neither asyncio nor msgspec.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from posthouse.cli.addresses import NAMESERVER_PORT, address_list
from posthouse.cli.failure import Failure, NotFound, Unreachable
from posthouse.cli.settings import variable

if TYPE_CHECKING:
    from posthouse.host.net import Address

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Remote:
    """Whom to ask, and how long to wait for an answer."""

    nameservers: Sequence[str]
    timeout_s: float

    @property
    def timeout_ms(self) -> int:
        return int(self.timeout_s * 1000)

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of one coroutine within the time-out, on a loop of its own. Raises Failure."""
        import asyncio

        async def in_time() -> T:
            async with asyncio.timeout(self.timeout_s):
                return await work()

        with failures(self):
            return asyncio.run(in_time())


def remote_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--nameservers` and `--timeout`, given to the command as one argument `remote`."""

    @click.option(
        "--nameservers",
        type=address_list,
        metavar="ADDRESSES",
        envvar=variable("nameservers"),
        default=f"127.0.0.1:{NAMESERVER_PORT}",
        show_default=True,
        help="NameServers to ask; also POSTHOUSE_NAMESERVERS.",
    )
    @click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        default=5.0,
        show_default=True,
        help="How long to wait for an answer.",
    )
    @wraps(command)
    def with_remote(nameservers: tuple[Address, ...], timeout_s: float, **rest: Any) -> None:
        command(remote=Remote([str(address) for address in nameservers], timeout_s), **rest)

    return with_remote


def json_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--json`, given to the command as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document a line, with stable keys.")(command)


@contextmanager
def failures(remote: Remote) -> Iterator[None]:
    """Turns what the client raises into a cause, a next step and an exit code."""
    from posthouse.client import errors
    from posthouse.model.refusal import Refused

    try:
        yield
    except errors.NoNameServer as error:
        causes = "; ".join(f"{address}: {_short(why, address)}" for address, why in error.tried)
        raise Unreachable(
            f"cannot reach a NameServer ({causes}). "
            "Start one with `posthouse serve`, or name another with --nameservers."
        ) from error
    except errors.NoRoute as error:
        raise NotFound(
            f"there is no topic {error.topic!r}. Create it with `posthouse topic create {error.topic}`, or look at "
            "`posthouse topic list`."
        ) from error
    except (errors.Timeout, errors.SendTimeout, errors.Unreachable, errors.NoBroker) as error:
        raise Unreachable(_sentence(error)) from error
    except (errors.SendFailed, errors.BrokerRefused) as error:
        raise (NotFound if error.code in _absent() else Failure)(_sentence(error)) from error
    except (errors.PosthouseError, Refused) as error:
        raise Failure(_sentence(error)) from error
    except TimeoutError as error:
        raise Unreachable(f"not done within {remote.timeout_s:g} s; allow more with --timeout.") from error


def _absent() -> frozenset[int]:
    """The codes that say that what was asked for is not there."""
    from posthouse.codec.remoting.codes import ResponseCode

    return frozenset(
        {
            ResponseCode.TOPIC_NOT_EXIST,
            ResponseCode.QUERY_NOT_FOUND,
            ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST,
        }
    )


def _short(why: str, address: str) -> str:
    """The link's words about one address, without what is said anyway."""
    return why.removeprefix(f"cannot connect to {address}: ").split(";")[0]


def _sentence(error: Exception) -> str:
    text = str(error)
    return text if text.endswith((".", "?", "`")) else text + "."
