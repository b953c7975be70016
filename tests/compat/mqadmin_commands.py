"""Every command of mqadmin 5.3.3: how it is called, and what it prints when it works. In the order in which they run.

What is printed is said as a pattern of one line: blanks stand for any number of blanks, … for anything, a word in
braces for something that is known by then (see test_mqadmin.py). The table in docs/compat.md is made of this one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Works:
    """`keep` takes words out of the output for later commands. `only` is the server of which it is true."""

    command: str
    args: str
    prints: str
    keep: Mapping[str, str] = field(default_factory=dict)
    only: str = ""
    waits: bool = False
    """Whether it may take a moment until it is so."""
    shows_stacks: bool = False
    """Whether stacks of threads are what was asked for."""


@dataclass(frozen=True)
class Refuses:
    """Does not apply to Posthouse, which says so: `why` is in the answer. Without `args` it is not run."""

    command: str
    args: str
    why: str


ROWS: Final = (
    # Topics
    Works("updateTopic", "-b {broker} -t {topic} -r 2 -w 2", "create topic to {broker} success."),
    Works("updateTopic", "-b {broker} -t other -a +message.type=FIFO", "attributes={+message.type=FIFO}"),
    Works("updateTopicList", "-b {broker} -f {folder}/topics.json", "submit batch of topic config to {broker} success"),
    Works("updateTopicPerm", "-b {broker} -t other -p 4", "update topic perm from 6 to 4 in {broker} success."),
    Works("topicRoute", "-t {topic}", '"brokerName":"{name}"'),
    Works("topicRoute", "-t {topic} -l", "{cluster} {name} {0={broker}} 2 2 6"),
    Works("topicStatus", "-t {topic}", "{name} 1 0 0"),
    Works("topicClusterList", "-t {topic}", "{cluster}"),
    Works("topicList", "", "{topic}"),
    Works("updateOrderConf", "-t {topic} -m put -v {name}:2", "update orderConf success."),
    Works("updateOrderConf", "-t {topic} -m get", "orderConf=[{name}:2]"),
    Works("updateOrderConf", "-t {topic} -m delete", "delete orderConf success."),
    Works("allocateMQ", "-t {topic} -i 10.0.0.1,10.0.0.2", '"10.0.0.1":[{"brokerName":"{name}"'),
    # Groups
    Works("updateSubGroup", "-b {broker} -g {group} -r 3", "create subscription group to {broker} success."),
    Works(
        "updateSubGroupList", "-b {broker} -f {folder}/groups.json",
        "submit batch of group config to {broker} success",
    ),
    Works("getConsumerConfig", "-g {group}", "retryMaxTimes = 3"),
    Works(
        "setConsumeMode", "-b {broker} -t {topic} -g {group} -m PULL", "set consume mode to {broker} success.",
    ),
    # Messages
    Works(
        "sendMessage", "-t {topic} -p hello -k wanted -c TagA -b {name} -i 1", "{name} 1 SEND_OK",
        {"unique": r"SEND_OK\s+(\w+)"},
    ),
    Works(
        "sendMessage", "-t {topic} -p traced -m true", "SEND_OK", {"traced": r"SEND_OK\s+(\w+)"},
    ),
    Works("checkMsgSendRT", "-t {topic} -a 3 -s 16", "Avg RT: …"),
    Works("sendMsgStatus", "-b {name} -c 2", "SendResult [sendStatus=SEND_OK"),
    Works("queryMsgByKey", "-t {topic} -k wanted", "{unique} 1 0", waits=True),
    Works("queryMsgByUniqueKey", "-t {topic} -i {unique}", "Keys: [wanted]", waits=True),
    Works(
        "queryMsgByOffset", "-t {topic} -b {name} -i 1 -o 0", "Tags: [TagA]", {"place": r"OffsetID:\s+(\w+)"}
    ),
    Works("queryMsgById", "-t {topic} -i {place}", "OffsetID: {place}"),
    Works(
        "queryMsgTraceById", "-i {traced}", "Pub … success", only="posthouse", waits=True
    ),  # Apache's own has no topic for traces unless it is told to
    Works("printMsg", "-t {topic} -d true", "minOffset=0, … topic={topic}"),
    Works("printMsgByQueue", "-t {topic} -a {name} -i 1 -p true", "MSGID: {unique} …"),
    Works("consumeMessage", "-t {topic} -g reader -c 2", "Consume ok"),
    Works("queryCq", "-t {topic} -b {broker} -q 1 -i 0 -c 1", "tagsCode=2598919"),
    # Who is connected, and how far it is. From here on a push consumer and a producer of Apache's are there.
    Works("!member", "{topic} {group}", "@member", {"client": r"(\S+@member)"}),
    Works("producer", "-b {broker}", "producer group ({group}-producer) instance : clientId={client}", waits=True),
    Works("producerConnection", "-t {topic} -g {group}-producer", "{client} … JAVA V5_3_3"),
    Works("consumerConnection", "-g {group}", "{client} … JAVA V5_3_3"),
    Works("topicList", "-c", "{cluster} {topic} …"),
    Works("consumerStatus", "-g {group}", "1 {client} V5_3_3 …"),
    Works("consumerStatus", "-g {group} -i {client} -s", "PROP_CONSUME_TYPE : CONSUME_PASSIVELY", shows_stacks=True),
    Works(
        "queryMsgByUniqueKey", "-t {topic} -i {unique} -g {group} -d {client}",
        "ConsumeMessageDirectlyResult [order=false, autoCommit=true, consumeResult=CR_SUCCESS",
    ),
    Works("resetOffsetByTime", "-g {group} -t {topic} -s 0", "{name} 1 0"),
    Works("skipAccumulatedMessage", "-g {group} -t {topic}", "{name} 1 …"),
    Works("cloneGroupOffset", "-s {group} -d reader -t {topic} -o true", "clone group offset success."),
    Works("consumerProgress", "", "{group} 1 V5_3_3 PUSH CLUSTERING …"),
    Works("consumerProgress", "-g {group}", "Consume Diff Total: …"),
    Works("brokerConsumeStats", "-b {broker}", "{topic} {group} {name} 1 …"),
    # The broker and the cluster
    Works("clusterList", "", "{cluster} {name} 0 {broker} V5_3_3 …"),
    Works("clusterList", "-m", "{cluster} {name} …"),
    Works("brokerStatus", "-b {broker}", "brokerVersionDesc : V5_3_3"),
    Works("statsAll", "-t {topic}", "{topic} {group} …"),
    Works("haStatus", "-b {broker}", "#SlaveNum 0"),
    Works("getBrokerConfig", "-b {broker}", "fileReservedTime = 72"),
    Works("updateBrokerConfig", "-b {broker} -k fileReservedTime -v 48", "update broker config success, {broker}"),
    Works("cleanExpiredCQ", "-b {broker}", "success"),
    Works("cleanUnusedTopic", "-b {broker}", "success"),
    Works("deleteExpiredCommitLog", "-b {broker}", "success"),
    Works("exportMetadata", "-c {cluster} -f {folder}", "export {folder}/metadata.json success"),
    Works("exportConfigs", "-c {cluster} -f {folder}", "export {folder}/configs.json success"),
    Works("exportMetrics", "-c {cluster} -f {folder}", "export {folder}/metrics.json success"),
    # The NameServer
    Works("getNamesrvConfig", "", "enableTopicList = true"),
    Works("updateNamesrvConfig", "-k enableTopicList -v true", "update name server config success!"),
    Works("updateKvConfig", "-s desk -k colour -v red", "create or update kv config to namespace success."),
    Works("deleteKvConfig", "-s desk -k colour", "delete kv config from namespace success."),
    Works("wipeWritePerm", "-b {name}", "wipe write perm of broker[{name}] in name server[{nameserver}] OK, …"),
    Works("addWritePerm", "-b {name}", "add write perm of broker[{name}] in name server[{nameserver}] OK, …"),
    # Away with it
    Works("deleteSubGroup", "-b {broker} -g reader", "delete subscription group [reader] from broker [{broker}]"),
    Works("deleteTopic", "-c {cluster} -t other", "delete topic [other] from NameServer success."),
    # What does not apply
    Refuses(
        "updateStaticTopic", "-t moving -c {cluster} -qn 2 -mf {folder}/mapping",
        "static topics (queues that move between brokers) are not served",
    ),
    Refuses("remappingStaticTopic", "-t {topic} -c {cluster}", "Mapping info should not be null"),
    Refuses("exportPopRecord", "-b {broker}", "it moves RocketMQ's pop records out of RocksDB"),
    Refuses("getColdDataFlowCtrInfo", "-b {broker}", "reads of cold data have no flow control here"),
    Refuses(
        "updateColdDataFlowCtrGroupConfig", "-b {broker} -g {group} -v 10",
        "reads of cold data have no flow control here",
    ),
    Refuses(
        "removeColdDataFlowCtrGroupConfig", "-b {broker} -g {group}", "reads of cold data have no flow control here"
    ),
    Refuses("setCommitLogReadAheadMode", "-b {broker} -m 1", "left to the operating system; there is no mode to set"),
    Refuses("resetMasterFlushOffset", "-b {broker} -o 0", "there are no slaves here"),
    Refuses("addBroker", "-c {broker} -b /dev/null", "one broker in a process, started by you"),
    Refuses("removeBroker", "-c {broker} -b {cluster}:{name}:0", "one broker in a process, started by you"),
    Refuses("getBrokerEpoch", "-b {name}", "there is no controller here"),
    Refuses("getSyncStateSet", "-a {nameserver} -b {name}", "there is no controller here"),
    Refuses("getControllerMetaData", "-a {nameserver}", "there is no controller here"),
    Refuses("getControllerConfig", "-a {nameserver}", "there is no controller here"),
    Refuses("updateControllerConfig", "-a {nameserver} -k a -v b", "there is no controller here"),
    Refuses("electMaster", "-a {nameserver} -b 0 -bn {name} -c {cluster}", "there is no controller here"),
    Refuses("cleanBrokerMetadata", "-a {nameserver} -bn {name} -c {cluster}", "there is no controller here"),
    Refuses("createUser", "-b {broker} -u a -p b", "users and access rules are not served"),
    Refuses("updateUser", "-b {broker} -u a -p b", "users and access rules are not served"),
    Refuses("deleteUser", "-b {broker} -u a", "users and access rules are not served"),
    Refuses("getUser", "-b {broker} -u a", "users and access rules are not served"),
    Refuses("listUser", "-b {broker}", "users and access rules are not served"),
    Refuses("copyUser", "-f {broker} -t {broker}", "users and access rules are not served"),
    Refuses("createAcl", "-b {broker} -s User:a -r Topic:a -a Pub -d ALLOW", "users and access rules are not served"),
    Refuses("updateAcl", "-b {broker} -s User:a -r Topic:a -a Pub -d ALLOW", "users and access rules are not served"),
    Refuses("deleteAcl", "-b {broker} -s User:a", "users and access rules are not served"),
    Refuses("getAcl", "-b {broker} -s User:a", "users and access rules are not served"),
    Refuses("listAcl", "-b {broker}", "users and access rules are not served"),
    Refuses("copyAcl", "-f {broker} -t {broker}", "users and access rules are not served"),
    Refuses("checkRocksdbCqWriteProgress", "-c {cluster}", "nothing is kept in RocksDB here"),
    Refuses("rocksDBConfigToJson", "-c {cluster}", "nothing is kept in RocksDB here"),
    Refuses("exportMetadataInRocksDB", "", "reads RocksDB files of Apache's broker, and asks no server"),
    Refuses("dumpCompactionLog", "", "reads a file of Apache's broker, and asks no server"),
    # What does not end
    Refuses("clusterRT", "", "works, but runs until it is stopped: `DefaultCluster … broker-a … 2 … 0`"),
    Refuses("startMonitoring", "", "works, but runs until it is stopped, and prints nothing while all is well"),
)  # fmt: skip


def filled(text: str, words: Mapping[str, str]) -> str:
    """The text with known words in place of their names. Other braces stay."""
    return re.sub(r"\{([a-z]+)\}", lambda found: words.get(found[1], found[0]), text)


def pattern(prints: str, words: Mapping[str, str]) -> re.Pattern[str]:
    """A line that is as `prints` says."""
    parts = [re.escape(filled(part, words)) for part in prints.replace("…", " … ").split()]
    return re.compile(r"[ \t]*".join(".*?" if part == "…" else part for part in parts))
