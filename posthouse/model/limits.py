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

COLD_READS_MAX = 1000
"""Pulls of one broker, and as many pops, that wait for the device: each is a task and holds what it has read."""

PULL_SUSPEND_MS_MAX = 25_000
"""The longest we hold a pull; stock clients give up after 30 s."""

UNSYNCED_BYTES_MAX = 64 * 1024 * 1024
"""Appended and not yet on disk; above it sends are refused as busy."""

CLIENT_EXPIRY_MS = 120_000
"""A client without a heartbeat is forgotten. RocketMQ: channelExpiredTimeout."""

GROUP_RULES_MAX = 100_000
"""What admins have set for a group on one topic, over all groups."""

RETRY_TIMES_MAX = 100
"""Times in the retry policy of a group. RocketMQ's own list has 16; its limit is none."""

FIXED_SUBSCRIPTIONS_MAX = 1000
"""Subscriptions in the configuration of one group."""

RESET_TELLS_MAX = 16
"""Pulls that are told where an admin moved their group, before one that does not follow may go on. RocketMQ: 1."""

LOCK_LEASE_MS = 60_000
"""How long a member of an ordered group holds a queue after it last asked. RocketMQ: lockMaxLiveTime."""

LOCK_KEPT_MS = 30_000
"""How long it keeps a queue that it held when the broker stopped, unless it asks again. For so long a client believes
in a lock of which it hears nothing. RocketMQ: rebalanceLockMaxLiveTime of the client."""

LOCKS_MAX = 500_000
"""Queues of ordered groups that are held at a time. RocketMQ has no limit."""

LOCKED_NAME_CHARS_MAX = 255
"""A group, a topic or a client id in a request for locks. RocketMQ has no limit."""

BROKER_EXPIRY_MS = 120_000
"""A broker that does not register again is forgotten by a NameServer, unless it named its own time."""

EXPRESSION_BYTES_MAX = 4096
"""A tag or SQL92 expression."""

EXPRESSION_DEPTH_MAX = 64
"""Levels of a SQL92 expression: brackets, NOT, signs, comparisons of comparisons. RocketMQ has no limit."""

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

REPLIES_MAX = 1000
"""Answers to requests under way to those who asked, in one broker. RocketMQ: 10,000 in the queue of its threads."""

REPLIES_BYTES_MAX = 64 * 1024 * 1024
"""Bodies of these answers: each is kept until its client says that it has it, or for 10 s."""

QUERIES_MAX = 32
"""Queries by key or offset under way in one broker, so that their answers cannot take all memory."""

STATS_KEYS_MAX = 50_000
"""Topics, or pairs of topic and group, that statistics of one kind are kept for: some 1 KiB each."""

CLIENT_ANSWER_SECONDS_MAX = 10.0
"""How long a broker waits for a client that it asks something for an operator. RocketMQ: 10 s."""

RELAYS_MAX = 100
"""Such questions under way in one broker."""

INSPECTIONS_MAX = 4
"""Looks at all groups, or into queues, under way in one broker."""

INSPECTED_ENTRIES_MAX = 1024
"""Entries of a queue shown in one answer. RocketMQ: as many as were asked for."""

DUE_MS_MAX = 253_402_300_799_000
"""When a delayed message may be due at the latest: the end of the year 9999. RocketMQ: 3 days ahead."""

TIMERS_IN_FLIGHT_MAX = 1000
"""Delayed messages that are due, appended, and not yet committed. No more are begun until some of them are."""

POP_MESSAGES_MAX = 32
"""Messages in one pop answer. RocketMQ: 32."""

POP_POLL_MS_MAX = 60_000
"""The longest we hold a pop; clients ask for 15 s. RocketMQ has no limit."""

POP_INVISIBLE_MS_MAX = 12 * 60 * 60 * 1000
"""The longest that a popped message is invisible to others; it can be renewed. RocketMQ's proxy: 12 hours."""

WAITING_POPS_PER_KEY_MAX = 1024
"""Pops held for one group and queue (or any queue) of a topic. RocketMQ: popPollingSize."""

WAITING_POPS_MAX = 100_000
"""Pops held in all. RocketMQ: maxPopPollingSize."""

POPPED_PER_QUEUE_MAX = 10_000
"""Messages of one queue that one group may hold unacknowledged; it gets no more of that queue until some are. RocketMQ:
popInflightMessageThreshold, there off by default."""

POPPED_MAX = 1_000_000
"""The same over all groups and queues: some 130 MB, and 0.2 s at the beginning of each segment."""

ATTEMPT_ID_CHARS_MAX = 255
"""The id by which an ordered pop is known when it is tried again."""

ACKS_PER_ENTRY_MAX = 65_536
"""Bits in one entry of a batch of acknowledgements."""
