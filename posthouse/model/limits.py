"""Every limit, in one place, with its unit and where its value comes from.

Past a limit the answer is a refusal that names it.
"""

from __future__ import annotations

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
"""Body of a message, and the whole of a batch. RocketMQ: maxMessageSize."""

BATCH_MESSAGES_MAX = 65_536
"""Messages of one batch: with all that the broker adds to each, they still fit into one commit of the log."""

PROPERTIES_BYTES_MAX = 32_767
"""Encoded properties; the record has a signed 16 bit length for them."""

TOPIC_CHARS_MAX = 127
"""Topic name; old clients read its length as a signed byte."""

RESERVED_TOPIC_CHARS_MAX = 255
"""Name of a %RETRY% or %DLQ% topic."""

GROUP_CHARS_MAX = 120
"""Group name, so that %RETRY% + group fits 127."""

FRAME_BYTES_MAX = 16 * 1024 * 1024
"""A whole remoting frame. RocketMQ: com.rocketmq.remoting.frameMaxLength."""

HEADER_BYTES_MAX = 4 * 1024 * 1024
"""The header part of a frame. The answer to a batch names every message in it, with up to 57 characters for each of
BATCH_MESSAGES_MAX; requests need far less. RocketMQ has no limit of its own.
"""

REMARK_CHARS_MAX = 1024
"""The text of a refusal; what it quotes of a request may be long. RocketMQ has no limit."""

QUEUES_PER_TOPIC_MAX = 1024
"""Read or write queues of one topic. RocketMQ has none; its largest own topic (BenchmarkTest) has 1024."""

TOPICS_MAX = 50_000
"""Topics of one broker, retry topics included."""

GROUPS_MAX = 50_000
"""Consumer groups of one broker."""

CONNECTIONS_MAX = 10_000
"""Open connections of one listener."""

IDLE_SECONDS_MAX = 120
"""A connection without traffic in either direction is closed. RocketMQ: 120 s on both sides."""

FIRST_FRAME_SECONDS_MAX = 120
"""How long a started frame may stay incomplete before its connection is closed."""

OUTBOX_BYTES_HIGH = 4 * 1024 * 1024
"""Answers that a peer has not taken: above this we stop reading from it."""

OUTBOX_BYTES_LOW = 1024 * 1024
"""Below this we read again."""

REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX = 65_535
"""Requests of ours that wait for an answer on one connection. RocketMQ: 65,535 permits for asynchronous sends."""

PULL_MESSAGES_MAX = 32
"""Messages in one pull answer. RocketMQ: maxTransferCountOnMessageInMemory."""

PULL_BYTES_MAX = 256 * 1024
"""Bytes in one pull answer; one message is always given. RocketMQ: maxTransferBytesOnMessageInMemory."""

PULL_SCAN_MAX = 800
"""Queue entries looked at for one pull when a filter lets few pass. RocketMQ: maxFilterMessageSize / 20."""

WAITING_PULLS_MAX = 100_000
"""Pulls held for new messages, over all queues. RocketMQ: pull queue capacity 100,000."""

PULL_SUSPEND_MS_MAX = 25_000
"""The longest we hold a pull; stock clients give up after 30 s."""

UNSYNCED_BYTES_MAX = 64 * 1024 * 1024
"""Appended and not yet on disk; above it sends are refused as busy."""

CLIENT_EXPIRY_MS = 120_000
"""A client without a heartbeat is forgotten. RocketMQ: channelExpiredTimeout."""

BROKER_EXPIRY_MS = 120_000
"""A broker that does not register again is forgotten by a NameServer, unless it named its own time."""

EXPRESSION_BYTES_MAX = 4096
"""A tag or SQL92 expression."""

KV_ENTRIES_MAX = 100_000
"""KV configuration entries of one NameServer."""

INFLATED_BYTES_MAX = 64 * 1024 * 1024
"""A compressed registration body after inflating."""

YOUNG_QUEUE_BYTES = 4 * 1024 * 1024 * 1024
"""A queue whose first message has no more log than this behind it is young: a new group begins at its start.

RocketMQ asks whether that message is in 40 % of the memory of the machine.
"""

BROKERS_MAX = CONNECTIONS_MAX // 2
"""Registrations held by one NameServer. Each broker keeps a connection, so brokers cannot take all of them."""

BROKER_NAME_BYTES_MAX = RESERVED_TOPIC_CHARS_MAX
"""Every text that a broker brings, as JSON. Not only the letters of topics: brokers register topics named after
themselves, so after host names. With the limits on numbers, each answer here fits into a frame."""

KV_BYTES_MAX = FRAME_BYTES_MAX - HEADER_BYTES_MAX
"""The whole file of a NameServer's KV configuration, because a namespace is answered in one frame."""

DESCRIPTORS_KEPT = 256
"""Open files that are not left to clients: the log's, the runs', connections being closed, the interpreter's."""

QUERY_MESSAGES_MAX = 64
"""Messages in the answer to a query by key. RocketMQ: maxMsgsNumBatch."""

UNIQUE_QUERY_MESSAGES = 32
"""The same for a query by unique key, whatever it asks for. RocketMQ: defaultQueryMaxNum."""

QUERY_BYTES_MAX = 8 * 1024 * 1024
"""Bytes of the messages in an answer to a query; one is always given. With the header they fit into a frame."""

QUERIES_MAX = 32
"""Queries by key or offset under way in one broker, so that their answers cannot take all memory."""
