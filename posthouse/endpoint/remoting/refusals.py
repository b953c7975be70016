"""Requests of RocketMQ that are known and not served, and why: for the person who reads the answer, and for the docs.

The answer to each is "request code not supported" with this text. A code that is in none of the tables is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping

from posthouse.codec.remoting.codes import RequestCode

_C = RequestCode

_UNUSED = "RocketMQ itself has no handler for it"
_TO_CLIENTS = "a broker sends it to clients; nobody sends it to a broker"
_CLASS_FILTERS = "filter classes are gone from RocketMQ as well; use tags or SQL92 expressions"
_TRANSACTIONS = "transactional messages are not served by this version of Posthouse"
_NO_SLAVES = "there are no slaves here that ask for it, and no replication"
_NO_CONTAINER = "a broker container starts brokers by request; Posthouse runs one broker in a process, started by you"
_NO_CONTROLLER = "there is no controller here: a broker has no replicas that could be elected"
_NO_COLD_DATA = "reads of cold data have no flow control here, so there is nothing to set or to show"
_NO_ROCKSDB = "nothing is kept in RocksDB here; `posthouse dump` writes what is stored as JSON"
_NO_ACL = "users and access rules are not served by this version of Posthouse; restrict access by the network"
_ON_NAMESERVERS = "it is for a NameServer, not for a broker"
_ON_BROKERS = "it is for a broker, not for a NameServer"

_OF_CONTROLLERS = {
    code: _NO_CONTROLLER
    for code in RequestCode
    if _C.CONTROLLER_ALTER_SYNC_STATE_SET <= code <= _C.RAFT_BROKER_HEART_BEAT_EVENT_REQUEST
}

BROKER_REFUSALS: Mapping[RequestCode, str] = {
    **_OF_CONTROLLERS,
    _C.QUERY_BROKER_OFFSET: _UNUSED,
    _C.GET_TOPIC_CONFIG_LIST: _UNUSED,
    _C.GET_TOPIC_NAME_LIST: _UNUSED,
    _C.TRIGGER_DELETE_FILES: f"{_UNUSED}; 329 deletes what is too old",
    _C.END_TRANSACTION: _TRANSACTIONS,
    _C.CHECK_TRANSACTION_STATE: _TO_CLIENTS,
    _C.NOTIFY_CONSUMER_IDS_CHANGED: _TO_CLIENTS,
    _C.GET_ALL_DELAY_OFFSET: "delayed messages are kept by the time at which they are due, not by an offset per level",
    _C.GET_CLIENT_CONFIG: _UNUSED,
    _C.UPDATE_AND_CREATE_ACL_CONFIG: _NO_ACL,
    _C.DELETE_ACL_CONFIG: _NO_ACL,
    _C.GET_BROKER_CLUSTER_ACL_INFO: _NO_ACL,
    _C.UPDATE_GLOBAL_WHITE_ADDRS_CONFIG: _NO_ACL,
    _C.GET_BROKER_CLUSTER_ACL_CONFIG: _NO_ACL,
    _C.GET_TIMER_CHECK_POINT: _NO_SLAVES,
    _C.GET_TIMER_METRICS: "delayed messages are not counted by topic; 28 says how many wait (timerCongestNum)",
    _C.SUSPEND_CONSUMER: _UNUSED,
    _C.RESUME_CONSUMER: _UNUSED,
    _C.RESET_CONSUMER_OFFSET_IN_CONSUMER: _UNUSED,
    _C.RESET_CONSUMER_OFFSET_IN_BROKER: f"{_UNUSED}; 222 resets offsets",
    _C.ADJUST_CONSUMER_THREAD_POOL: _UNUSED,
    _C.WHO_CONSUME_THE_MESSAGE: f"{_UNUSED}; 300 says who consumes a topic",
    _C.RESET_CONSUMER_CLIENT_OFFSET: _TO_CLIENTS,
    _C.GET_CONSUMER_STATUS_FROM_CLIENT: f"{_TO_CLIENTS}; 223 makes it do so",
    _C.REGISTER_FILTER_SERVER: _CLASS_FILTERS,
    _C.REGISTER_MESSAGE_FILTER_CLASS: _CLASS_FILTERS,
    _C.RESUME_CHECK_HALF_MESSAGE: _TRANSACTIONS,
    _C.PUSH_REPLY_MESSAGE_TO_CLIENT: _TO_CLIENTS,
    _C.CHECK_ROCKSDB_CQ_WRITE_PROGRESS: _NO_ROCKSDB,
    _C.EXPORT_ROCKSDB_CONFIG_TO_JSON: _NO_ROCKSDB,
    _C.RECALL_MESSAGE: "delayed messages cannot be recalled by this version of Posthouse",
    _C.UPDATE_AND_CREATE_STATIC_TOPIC: "static topics (queues that move between brokers) are not served; create a "
    "topic on each broker",
    _C.ADD_BROKER: _NO_CONTAINER,
    _C.REMOVE_BROKER: _NO_CONTAINER,
    _C.NOTIFY_MIN_BROKER_ID_CHANGE: _NO_SLAVES,
    _C.EXCHANGE_BROKER_HA_INFO: _NO_SLAVES,
    _C.RESET_MASTER_FLUSH_OFFSET: _NO_SLAVES,
    _C.UPDATE_COLD_DATA_FLOW_CTR_CONFIG: _NO_COLD_DATA,
    _C.REMOVE_COLD_DATA_FLOW_CTR_CONFIG: _NO_COLD_DATA,
    _C.GET_COLD_DATA_FLOW_CTR_INFO: _NO_COLD_DATA,
    _C.SET_COMMITLOG_READ_MODE: "how the log is read ahead is left to the operating system; there is no mode to set",
    _C.AUTH_CREATE_USER: _NO_ACL,
    _C.AUTH_UPDATE_USER: _NO_ACL,
    _C.AUTH_DELETE_USER: _NO_ACL,
    _C.AUTH_GET_USER: _NO_ACL,
    _C.AUTH_LIST_USER: _NO_ACL,
    _C.AUTH_CREATE_ACL: _NO_ACL,
    _C.AUTH_UPDATE_ACL: _NO_ACL,
    _C.AUTH_DELETE_ACL: _NO_ACL,
    _C.AUTH_GET_ACL: _NO_ACL,
    _C.AUTH_LIST_ACL: _NO_ACL,
    _C.POP_ROLLBACK: "it moves RocketMQ's pop records out of RocksDB; here they are records of the one log, and "
    "there is nothing to move",
}

NAMESERVER_REFUSALS: Mapping[RequestCode, str] = {
    **_OF_CONTROLLERS,
    _C.NOTIFY_MIN_BROKER_ID_CHANGE: "a NameServer sends it to brokers; nobody sends it to a NameServer",
}

_TABLES = {"broker": (BROKER_REFUSALS, _ON_NAMESERVERS), "NameServer": (NAMESERVER_REFUSALS, _ON_BROKERS)}


def why_not(what: str, code: RequestCode) -> str:
    """Why a "broker" or a "NameServer" does not serve a request; nothing about other servers."""
    if what not in _TABLES:
        return ""
    mine, others = _TABLES[what]
    return f": {mine.get(code, others)}"
